"""Helpers without mathematics: files, tables, progress bars, the name of the host."""
