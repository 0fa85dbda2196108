"""Benchmarks of the store against raw redis-py on real servers; run them with `python -m benchmarks`."""
