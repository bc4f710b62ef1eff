"""What the system does, one use case a file, over ports that it declares itself."""
