"""Non-mathematical helpers: files, tables, progress bars, the name of the processor."""
