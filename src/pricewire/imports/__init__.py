"""Files of past prices, read row by row and brought to the service in chunks; the CLI calls it."""
