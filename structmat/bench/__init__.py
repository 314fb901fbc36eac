"""Measure adapters side by side, on the machine and the shapes at hand."""
