"""The nearest periodic neighbours of atoms."""
