"""A page whose library is not installed is not run."""

import importlib.util

collect_ignore = [] if importlib.util.find_spec("diffusers") else ["diffusers.md"]
