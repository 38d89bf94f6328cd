"""Unfinished work that a killed run leaves for the next one: its folder, its fingerprint, its lock and its parts."""
