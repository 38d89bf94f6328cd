"""Layers over edges in one compiled pass, for a CPU and float32; each has a plain version beside it in its layer."""
