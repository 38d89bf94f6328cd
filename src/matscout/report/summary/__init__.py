"""Metrics for Git, plots for DVC, and the cards."""
