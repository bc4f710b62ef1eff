"""What is true about prices: values and pure functions; standard library only, no I/O."""
