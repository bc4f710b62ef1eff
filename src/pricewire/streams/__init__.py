"""Processors: a pure step each, its state, and the one runner that serves them all."""
