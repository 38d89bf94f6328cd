"""Throughput and accuracy: each file is one command that writes figures into results/."""
