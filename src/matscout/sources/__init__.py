"""Read databases and files into records: one file per database, one record schema, one registry."""
