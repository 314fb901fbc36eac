"""Adapters of other libraries, read and written. Every format is one file here.

All meet in `turns.Turn`: a network with its orthogonal blocks as plain matrices, in no one's
parameters and signs. A format knows how its parameters become blocks, and back.
"""
