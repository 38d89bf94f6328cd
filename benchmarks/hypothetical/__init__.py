"""How well an ensemble judges crystals that nobody has made; see `python -m benchmarks.hypothetical --help`."""
