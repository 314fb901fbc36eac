"""The atlas of the best known topologies and their proved bounds, and its computation."""
