"""A pytest plugin that runs PEFT's tests with one method; see tests/README.md.

`PEFT_SUITE_METHOD` in the environment is "oft", the reference, or "structmat".
"""

import contextlib
import functools
import importlib
import json
import os
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch

from . import cases, data

METHOD = cases.METHODS[os.environ["PEFT_SUITE_METHOD"]]
RESULTS = Path(os.environ["PEFT_SUITE_RESULTS"])

# Classes of tests that are about one other method, or about what only LoRA can do.
OTHERS = re.compile(
    r"Test\w+Initialization|TestHotSwapping|TestDoraCaching|TestKappaTuneSelector"
    r"|TestMontecloraTrainerMixin|TestDynamicDispatch|TestMultiRankAdapter"
    r"|TestRankAndAlphaPattern|TestLayerRepr|TestLoraNestedConfigRoundTrip|TestPastKV"
)

_results: dict[str, dict[str, str]] = {}
_used: list[str] = []  # configurations that stand-ins made in the test at hand
_given: set[str] = set()  # tests whose parameters say the method
_empty: set[str] = set()  # tests all of whose rows are for other methods


def pytest_configure(config: pytest.Config) -> None:
    """Stand in for two packages that PEFT's tests import, and keep the tests offline."""
    del config
    expanding = _module("parameterized", parameterized=types.SimpleNamespace(expand=_expand))
    sys.modules["parameterized"] = expanding
    importlib.import_module("accelerate.test_utils.testing")
    # Only while this one is imported: other libraries look whether there is `datasets`.
    sys.modules["datasets"] = _module("datasets", load_dataset=data.load_dataset)
    try:
        utilities: Any = importlib.import_module("tests.testing_utils")
    finally:
        del sys.modules["datasets"]
    # It would let the first test that asks for a model go online, and wait for no answer.
    utilities.hub_online_once = contextlib.nullcontext


def _module(name: str, **content: Any) -> types.ModuleType:
    made = types.ModuleType(name)
    made.__dict__.update(content)
    return made


# Rows -----------------------------------------------------------------------------------------


def _every_layer(module: str) -> bool:
    return module.endswith("test_custom_models")


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Translate the rows of a test when it is parametrized."""
    parametrize = metafunc.parametrize

    def translating(argnames: Any, argvalues: Any, *args: Any, ids: Any = None, **kw: Any) -> None:
        names = argnames.split(",") if isinstance(argnames, str) else list(argnames)
        argvalues = list(argvalues)
        sets = [
            value
            if hasattr(value, "marks")
            else pytest.param(*(value if len(names) > 1 else [value]))
            for value in argvalues
        ]
        given = [tuple(row.values) for row in sets]
        labels = [cases.label(row, place) for place, row in enumerate(given)]
        found = cases.rows(
            given, labels, METHOD, every_layer=_every_layer(metafunc.module.__name__)
        )
        if found is None:
            parametrize(argnames, argvalues, *args, ids=ids, **kw)
            return
        name = metafunc.definition.nodeid
        _given.add(name)
        if not found:
            _empty.add(name)
        made = [pytest.param(*c.row, marks=sets[c.place].marks, id=c.label) for c in found]
        parametrize(argnames, made, *args, **kw)

    metafunc.parametrize = translating  # type: ignore[method-assign]


def _expand(rows: Any, **_: Any) -> Any:
    """Do what `parameterized.expand` does, with the rows of the method."""
    frame = sys._getframe(1)
    module = frame.f_globals["__name__"]

    def decorate(test: Any) -> None:
        given = [row if isinstance(row, tuple) else (row,) for row in rows]
        labels = [f"{test.__name__}_{place}" for place in range(len(given))]
        found = cases.rows(given, labels, METHOD, every_layer=_every_layer(module))
        translated = found is not None
        if found is None:
            found = [cases.Case(labels[k], row, k) for k, row in enumerate(given)]
        for case in found:

            @functools.wraps(test)
            def run(self: Any, case: cases.Case = case) -> Any:
                return test(self, *case.row)

            del run.__wrapped__
            run.__signature__ = None  # type: ignore[attr-defined]
            run.__name__ = case.label
            run._translated = translated  # type: ignore[attr-defined]
            frame.f_locals[case.label] = run

    return decorate


def pytest_collection_modifyitems(config: pytest.Config, items: list[Any]) -> None:
    """Leave out tests that are for other methods only."""
    gone = [
        item
        for item in items
        if item.nodeid.partition("[")[0] in _empty
        or (item.cls is not None and OTHERS.fullmatch(item.cls.__name__))
    ]
    config.hook.pytest_deselected(items=gone)
    items[:] = [item for item in items if item not in gone]


# Test bodies ----------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _stand_ins(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the configuration classes in a test by those of the method."""
    _used.clear()
    # Unseeded, whether a test passes at the edge of rounding depends on those before it.
    torch.manual_seed(0)
    if METHOD is cases.OURS:
        base = cases.StructmatConfig
        monkeypatch.setattr(base, "__setattr__", cases.set_option, raising=False)
    if _says_method(request.node):
        return
    sources = [cases.LORA] if METHOD is cases.OFT else [cases.LORA, cases.OFT]
    for source in sources:
        for own, other in (
            (source.config, cases.stand_in(source, METHOD, _used)),
            (source.layer, METHOD.layer),
            (source.model, METHOD.model),
        ):
            if getattr(request.module, own.__name__, None) is own:
                monkeypatch.setattr(request.module, own.__name__, other)


def _says_method(item: Any) -> bool:
    if item.nodeid.partition("[")[0] in _given or getattr(item.obj, "_translated", False):
        return True
    return METHOD is cases.OFT and "OFTConfig" in item.obj.__code__.co_names


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: Any, call: Any) -> Any:
    """Record whether a test concerns the method at all."""
    report = yield
    if call.excinfo is not None and call.excinfo.errisinstance(cases.OwnOptionError):
        report.outcome = "skipped"
        report.longrepr = (str(item.path), 0, f"Skipped: only LoRA has {call.excinfo.value}")
    about = _says_method(item) or bool(_used)
    report.user_properties.append(("about", about))
    return report


def pytest_runtest_logreport(report: Any) -> None:
    """Record the outcome of a test, in the reporting process if workers run the tests."""
    if report.when == "teardown" and not report.failed:
        return
    if report.when == "setup" and report.passed:
        return
    if not dict(report.user_properties).get("about"):
        return
    why = report.longrepr
    if isinstance(why, tuple):
        why = why[2]
    elif why is not None:
        crash = getattr(why, "reprcrash", None)
        why = crash.message if crash is not None else str(why)
    first = str(why or "").strip().splitlines()
    outcome = "skipped" if hasattr(report, "wasxfail") else report.outcome
    name = report.nodeid.removeprefix("tests/")
    _results[name] = {"outcome": outcome, "why": first[0][:300] if first else ""}


def pytest_collectreport(report: Any) -> None:
    """Record a file that could not be collected."""
    if report.failed:
        last = str(report.longrepr).strip().splitlines()[-1]
        _results[f"{report.nodeid.removeprefix('tests/')}::collection"] = {
            "outcome": "failed",
            "why": last[:300],
        }


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the results."""
    if not hasattr(session.config, "workerinput"):
        RESULTS.write_text(json.dumps(_results, indent=1), "utf-8")
