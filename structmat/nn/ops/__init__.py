"""The product of vectors and a network: the torch operator, its execution plans and kernels."""
