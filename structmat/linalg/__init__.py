"""The matrix of a network with given blocks: sparse factors, rotations, schedules, fused stages.

Exact linear algebra modulo a prime, for ranks, is in `modular`.
"""
