"""Crystals that nobody has made, labelled by a potential: what the members learn of compounds above the hull."""
