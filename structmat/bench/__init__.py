"""Benchmarks that compare adapters on this machine for given layer shapes."""
