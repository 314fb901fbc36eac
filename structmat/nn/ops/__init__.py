"""Multiply vectors by a network: the torch operator, its execution plans and their kernels."""
