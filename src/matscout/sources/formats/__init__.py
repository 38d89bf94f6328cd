"""Parse the text of a file or the row of a database into a record."""
