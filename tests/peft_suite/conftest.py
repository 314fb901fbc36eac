"""The harness is tested here, without PEFT's tests; `make peft-suite` runs them."""

from importlib.util import find_spec

collect_ignore = ["plugin.py"]  # for the pytest that runs PEFT's tests
if not find_spec("peft"):
    collect_ignore += ["cases.py", "hub.py", "test_cases.py"]
