"""Benchmarks: side by side, on one machine, printed with its description."""
