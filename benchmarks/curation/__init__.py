"""Duplicates, symmetry, offsets and scale of curation; see `python -m benchmarks.curation --help`."""
