"""Export candidates as inputs of calculations, and read the results."""
