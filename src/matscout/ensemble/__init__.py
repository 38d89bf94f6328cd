"""Members to one calibrated prediction, and the metrics that judge it."""
