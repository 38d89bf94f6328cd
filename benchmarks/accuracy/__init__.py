"""Errors of the members and the ensemble; see `python -m benchmarks.accuracy --help`."""
