import networkx as nx
import pytest

import structmat as sm
from structmat.errors import SpecError
from structmat.finetune import methods
from structmat.finetune.methods import BY_NAME, METHODS, Method, named, rotation, torus

WIDTHS = (384, 1536)  # of all-MiniLM-L6-v2


def budget(topology):
    """Trainable generators in six blocks: q, k, v, o and up read 384 wires, down reads 1536."""
    build = sm.parse(topology) if isinstance(topology, str) else topology
    return 6 * (5 * build(384).parameters + build(1536).parameters)


@pytest.mark.parametrize("method", [m for m in METHODS if m.topology], ids=lambda m: m.name)
def test_rotations_train_about_as_much_as_lora(method):
    lora = 6 * 4 * (4 * 768 + 2 * 1920)
    if method.name == "dense-boft":  # 384 = 6·2^6: no smaller even block makes it dense
        assert budget(method.topology) == 408_960
    else:
        assert 0.8 * lora < budget(method.topology) < 1.05 * lora


def test_the_lists_of_methods_name_methods():
    assert set(methods.STORY) | set(methods.FEW) <= set(BY_NAME)
    assert len(BY_NAME) == len(METHODS)
    with pytest.raises(SpecError, match="no method 'lor'; did you mean lora"):
        named("lor")


def test_a_topology_of_the_table_is_that_method():
    assert rotation("butterfly( block = 8, depth=2)") is named("boft")
    own = rotation("monarch(radices=(16, 24))")
    assert (own.kind, own.name, own.topology) == (
        "rotation",
        "monarch-radices-16-24",
        "monarch(radices=(16, 24))",
    )
    with pytest.raises(SpecError, match="did you mean monarch"):
        rotation("monarh")


@pytest.mark.parametrize("width", WIDTHS)
def test_the_torus_turns_each_wire_with_its_four_neighbours_and_no_other(width):
    once = torus(width, repeat=1)
    pairs = {frozenset(map(int, row)) for bank in once.banks for row in bank.reads}
    rows, columns = {384: (16, 24), 1536: (32, 48)}[width]
    expected = nx.grid_graph((rows, columns), periodic=True)
    drawn = nx.Graph([tuple(pair) for pair in pairs])
    assert nx.is_isomorphic(drawn, expected)
    assert once.depth == 4


def test_rates_are_replaced_where_given():
    both = methods.with_rates((named("lora"), named("boft")), {"lora": 0.5})
    assert [method.rate for method in both] == [0.5, named("boft").rate]


def test_a_method_is_a_value():
    assert Method("a", "A", "head", 0.1) == Method("a", "A", "head", 0.1)
