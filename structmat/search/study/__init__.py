"""Search for networks by Optuna, in any number of processes that share a storage."""
