"""From raw rows to one table: validity, duplicates, reference offsets, label noise, splits."""
