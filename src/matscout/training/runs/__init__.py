"""One training: what is to be trained, and what a run of it leaves behind: hashes, checkpoints, curves."""
