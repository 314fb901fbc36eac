"""The exception classes, and the checks that raise them."""

import builtins
import inspect
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import structmat as sm
from structmat import errors
from structmat.errors import (
    MissingExtraError,
    StructmatError,
    abbreviated,
    checked_integer,
    random_source,
    require,
)


def test_every_error_class_is_a_structmat_error_and_a_value_error():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    raised = [k for k in kinds if issubclass(k, Exception) and not issubclass(k, Warning)]
    assert len(raised) >= 8
    for kind in raised:
        assert issubclass(kind, StructmatError)
        assert issubclass(kind, ValueError)


@given(st.integers(-(10**30), 10**30), st.integers(-10, 10))
def test_integers_are_accepted_from_the_minimum(value, least):
    if value >= least:
        assert checked_integer(value, "depth", least) == value
    else:
        with pytest.raises(StructmatError, match=f"depth={value}: .* ≥ {least}$"):
            checked_integer(value, "depth", least)


@pytest.mark.parametrize("value", [np.int32(7), np.uint8(7), np.array(7)])
def test_numpy_integers_become_python_integers(value):
    assert type(checked_integer(value, "block")) is int


@pytest.mark.parametrize(
    "value", [2.0, float("nan"), float("inf"), True, np.True_, np.float64(2), "2", None, [2], 2j]
)
def test_non_integers_are_rejected(value):
    with pytest.raises(StructmatError, match=r"^block=.*: block must be an integer ≥ 2$"):
        checked_integer(value, "block", 2)


NETWORKS = [
    name
    for name, function in vars(sm).items()
    if name in sm.__all__
    and inspect.isfunction(function)
    and str([*inspect.signature(function).parameters.values(), ""][0]).startswith("net: 'Network")
]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("net", ["butterfly(8)", sm.parse("butterfly")], ids=["spec", "family"])
def test_functions_that_need_a_network_reject_other_values(name, net):
    """This holds for every public function whose first argument is a network."""
    function = getattr(sm, name)
    others = list(inspect.signature(function).parameters.values())[1:]
    needed = [[] for p in others if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    with pytest.raises(StructmatError, match=rf"{name}.*takes a network.* network\(") as caught:
        function(net, *needed)
    assert repr(net) in str(caught.value)


def test_the_functions_that_need_a_network_are_found():
    assert {"is_dense", "reach", "random_blocks", "dimension", "fit", "route", "diagram"} < set(
        NETWORKS
    )


def test_an_optional_module_names_its_extra():
    assert require("json", "none") is json
    with pytest.raises(MissingExtraError, match=r'no_such_module .*"structmat\[plot\]"') as caught:
        require("no_such_module", "plot")
    assert isinstance(caught.value, ImportError)
    with pytest.raises(MissingExtraError, match=r"no_such_module\.part"):
        require("no_such_module.part", "plot")


def test_a_broken_module_is_not_a_missing_extra(tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text("import no_such_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency") as caught:
        require("broken_module", "plot")
    assert not isinstance(caught.value, StructmatError)


def test_random_source_accepts_generators_seeds_and_none_only():
    source = np.random.default_rng(3)
    assert random_source(source) is source
    assert random_source(3).random() == source.random()
    assert random_source(None).random() != random_source(None).random()
    for bad in (-1, 1.5, "seed", builtins):
        with pytest.raises(StructmatError, match=r"^rng=.*: rng must be a Generator"):
            random_source(bad)


def test_values_that_cannot_be_printed_are_named_by_their_type():
    class Broken:
        def __repr__(self):
            raise RuntimeError("no")

    with pytest.raises(StructmatError, match=r"^depth=a Broken that cannot be printed: depth must"):
        checked_integer(Broken(), "depth")
    with pytest.raises(StructmatError, match=r"^depth=ndarray of shape \(99,\): depth must"):
        checked_integer(np.arange(99), "depth")


def test_a_shape_is_read_only_for_values_that_are_long():
    class Unknown:
        def __init__(self, text):
            self.text = text

        def __repr__(self):
            return self.text

        @property
        def shape(self):
            raise RuntimeError("not known yet")

    assert abbreviated(Unknown("short")) == "short"
    assert abbreviated(Unknown("x" * 999)) == "a Unknown that cannot be printed"


def test_long_numbers_are_abbreviated_in_every_message():
    for call in (
        lambda: sm.butterfly(64, depth=10**400),
        lambda: sm.butterfly(64, block=10**400 + 1),
        lambda: sm.parse("shuffle(block=1" + "0" * 400 + ")")(64),
        lambda: sm.parse("butterfly").with_options(width=10**400),
        lambda: sm.parse("butterfly").with_options(width=10**5000),
    ):
        with pytest.raises(StructmatError, match=r"digits\)…|an integer of [\d,]+ bits") as caught:
            call()
        assert len(str(caught.value)) < 300
