"""Layers over edges in one compiled pass, for a CPU and float32; what each computes stands beside its plain version."""
