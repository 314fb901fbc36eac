"""Choice of a topology for a width or a model, within a budget and for a purpose."""
