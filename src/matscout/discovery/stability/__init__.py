"""Energies above the hull of competing phases."""
