"""From the text of a file or the row of a database to a record."""
