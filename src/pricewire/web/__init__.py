"""HTTP: routes, what they answer, how errors look."""
