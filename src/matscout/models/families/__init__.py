"""Families of distributions that a model's head predicts."""
