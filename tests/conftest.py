"""Settings shared by all tests."""

import gc
import os
import tempfile

from hypothesis import HealthCheck, settings

gc.disable()  # while modules are imported
collect_ignore = ["user_script.py"]  # it registers a family: tests run it as a program

# No test asks the Hub; read when a library that could is imported.
os.environ["HF_HUB_OFFLINE"] = "1"

# Measured times and machine code are kept for this run only, by all of its processes together, and
# none of the user's are used.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory(prefix="structmat-")
    os.environ["STRUCTMAT_CACHE"] = _CACHE.name

# No test depends on time: the machine may be shared, and a first call may compile or load.
# The weekly run of continuous integration tries more examples of each law.
settings.register_profile(
    "structmat",
    deadline=None,
    max_examples=int(os.environ.get("STRUCTMAT_EXAMPLES", "30")),
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("structmat")


def pytest_collection_finish():
    """Exempt what lives until the end from garbage collection, which is rare later, too."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)  # a passage over all takes 0.1 s
    gc.enable()
