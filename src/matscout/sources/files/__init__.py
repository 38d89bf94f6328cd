"""Files of a lab: one reader per format, each yielding raw rows."""
