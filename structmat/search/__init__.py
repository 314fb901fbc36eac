"""Search for networks of a given width, by properties or within a parameter budget."""
