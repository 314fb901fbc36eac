"""The matrix of a network with given blocks: factors, rotations, transforms, schedules, fusion."""
