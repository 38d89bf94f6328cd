"""Encoders, one a file, and the shared head that turns them into distributions."""
