"""From records to one honest table: validity, duplicates, offsets, noise, splits."""
