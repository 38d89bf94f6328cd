"""Snapshots on disk: pages of raw rows, and a manifest with their hashes."""
