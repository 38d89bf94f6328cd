"""Hypothetical crystals, labelled by a universal potential: they teach the members about compounds above the hull."""
