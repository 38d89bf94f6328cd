"""Combine members into one calibrated prediction, and measure its errors."""
