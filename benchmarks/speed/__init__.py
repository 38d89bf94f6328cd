"""Speed and memory, one command a file."""
