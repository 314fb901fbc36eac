"""Search for networks of a given width within a parameter budget."""
