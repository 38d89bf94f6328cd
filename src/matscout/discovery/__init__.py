"""Candidates, goals, screening, ranking, hand-over."""
