"""Rediscovery of known materials, stability, volumes and the cascade, one command a file."""
