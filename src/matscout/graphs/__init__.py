"""Crystals to neighbour graphs: search, packed store, batches."""
