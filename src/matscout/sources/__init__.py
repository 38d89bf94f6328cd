"""One database client a file, one record, one registry: raw rows in, records out."""
