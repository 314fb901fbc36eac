"""Settings that every test shares."""

from hypothesis import HealthCheck, settings

# No test depends on time: the machine may be shared, and a first call may compile or load.
settings.register_profile(
    "structmat",
    deadline=None,
    max_examples=100,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("structmat")
