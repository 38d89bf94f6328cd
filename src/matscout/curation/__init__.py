"""From raw rows to one honest table: validity, duplicates, reference offsets, label noise, splits."""
