"""Networks with blocks as matrices: blocks, sparse factors, rotations, schedules, fused stages."""
