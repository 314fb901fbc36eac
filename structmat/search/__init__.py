"""Find networks for a width and a budget."""
