"""Coverage and width of the intervals; see `python -m benchmarks.uncertainty --help`."""
