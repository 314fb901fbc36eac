"""The harness is tested here, without PEFT's tests; `make peft-suite` runs them."""

from importlib.util import find_spec

collect_ignore = ["plugin.py"]  # for the pytest that runs PEFT's tests
if not find_spec("transformers"):
    collect_ignore += ["hub.py", "test_hub.py"]
if not find_spec("peft"):
    collect_ignore += ["cases.py", "test_cases.py"]
