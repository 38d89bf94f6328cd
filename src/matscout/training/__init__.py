"""Losses, the loop, checkpoints, tracking."""
