"""Candidates as inputs of calculations, and results that come back."""
