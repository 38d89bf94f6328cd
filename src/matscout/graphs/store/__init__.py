"""Packed graphs: built from crystals, kept on disk, cut into batches."""
