"""Relax: the best candidates moved to their own minimum by a universal potential, and judged a second time."""
