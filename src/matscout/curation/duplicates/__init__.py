"""Which rows are one material."""
