"""The matrix of a network with given blocks: sparse factors, rotations, schedules, fused stages."""
