"""The training loop: batches, losses, learning rate, stopping, averaged weights."""
