"""How a view set lies on the disk: tables in columns, and the rows of many files as one array."""
