"""Bodies of the keyless vendors and of Alpha Vantage, each with what it is to be read as."""
