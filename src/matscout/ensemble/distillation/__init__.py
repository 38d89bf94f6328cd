"""A fast member that learns the ensemble's answers."""
