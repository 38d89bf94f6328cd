"""Which atoms of a cell are copies of one another."""
