"""Candidates, goals, screening, ranking, hand-off."""
