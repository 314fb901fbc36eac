"""Rotations that are merged into the weights again and again during training."""
