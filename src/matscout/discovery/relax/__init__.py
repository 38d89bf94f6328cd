"""Relax the best candidates with a universal potential, and rank them again."""
