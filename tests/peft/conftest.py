"""Keep the tests offline and ignore deprecation warnings of transformers about PEFT."""

from importlib.util import find_spec

import pytest

collect_ignore_glob = [] if find_spec("peft") else ["test_*.py"]


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def pytest_collection_modifyitems(items):
    ignored = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
    for item in items:
        if "tests/peft/" in str(item.path):
            item.add_marker(ignored)
