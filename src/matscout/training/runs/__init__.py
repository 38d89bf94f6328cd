"""A training run: its hashes, its checkpoints, its curves."""
