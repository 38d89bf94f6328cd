"""Predict, score and shortlist candidates."""
