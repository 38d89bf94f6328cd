"""Goals, the Pareto front, and batches for the next calculations."""
