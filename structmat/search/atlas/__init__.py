"""The atlas: the best known topologies and their proved bounds, computed and improved."""
