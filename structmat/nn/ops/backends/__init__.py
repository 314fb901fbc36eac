"""Backends of execution plans: each runs the schedule of a network on some devices and dtypes."""
