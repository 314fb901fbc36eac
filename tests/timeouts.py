"""Timeouts for processes that tests start."""

# Seconds after which a hanging test ends. Nothing takes nearly as long, however busy the
# machine: a test never fails because something was slow.
PATIENCE = 300
