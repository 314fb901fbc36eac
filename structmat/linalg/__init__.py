"""The matrix of a network with given blocks: factors, rotations, transforms, schedules, fusion.

Exact linear algebra modulo a prime, for ranks, is in `modular`.
"""
