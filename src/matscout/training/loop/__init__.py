"""The training loop: batches, losses, learning rate, the processes that share it, the weights that result."""
