"""Unfinished work that a killed run leaves for the next one: its place, its fingerprint, its locks and its parts."""
