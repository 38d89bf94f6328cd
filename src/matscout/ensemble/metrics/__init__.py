"""Errors, coverage and bootstrap intervals: pure functions of arrays."""
