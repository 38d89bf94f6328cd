"""Files that a lab already has: one reader a format, every one a stream of raw rows."""
