"""Energies above the hull of competing phases, and whether they can be judged."""
