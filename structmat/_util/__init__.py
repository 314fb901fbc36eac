"""Non-mathematical helpers: files, tables, progress bars, the host name."""
