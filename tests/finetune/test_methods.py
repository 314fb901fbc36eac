import networkx as nx
import pytest
import torch

import structmat as sm
from structmat.errors import SpecError, WidthError
from structmat.finetune import methods
from structmat.finetune.methods import (
    BY_NAME,
    METHODS,
    MORE,
    Method,
    named,
    rotation,
    ruler_prefix,
    torus,
    trainable,
)
from structmat.finetune.models import pretrained

WIDTHS = (384, 1536)  # of all-MiniLM-L6-v2


def budget(topology):
    """Trainable generators in six blocks: q, k, v, o and up read 384 wires, down reads 1536."""
    build = sm.parse(topology) if isinstance(topology, str) else topology
    return 6 * (5 * build(384).parameters + build(1536).parameters)


@pytest.mark.parametrize("method", [m for m in METHODS + MORE if m.topology], ids=lambda m: m.name)
def test_rotations_have_about_as_many_parameters_as_lora(method):
    lora = 6 * 4 * (4 * 768 + 2 * 1920)
    if method.name == "dense-boft":  # 384 = 6·2^6: no smaller even block makes it dense
        assert budget(method.topology) == 408_960
    else:
        assert 0.8 * lora < budget(method.topology) < 1.05 * lora


def test_the_lists_of_methods_contain_known_methods():
    assert set(methods.STORY) | set(methods.FEW) <= set(BY_NAME)
    assert list(BY_NAME.values()) == [*METHODS, *MORE]  # no name twice
    with pytest.raises(SpecError, match="no method 'lor'; did you mean lora"):
        named("lor")


def test_a_known_topology_resolves_to_its_named_method():
    assert rotation("butterfly( block = 8, depth=2)") is named("boft")
    specs = ["butterfly * 2", "butterfly[:2]", "(benes @ clos) * 2", "benes @ (clos * 2)"]
    assert len({rotation(spec).name for spec in specs}) == len(specs)
    assert [rotation(spec).label for spec in specs] == specs
    own = rotation("monarch(radices=(16, 24))")
    assert (own.kind, own.name, own.topology) == (
        "rotation",
        "monarch-radices-16-24",
        "monarch(radices=(16, 24))",
    )
    with pytest.raises(SpecError, match="did you mean monarch"):
        rotation("monarh")


@pytest.mark.parametrize("width", [*WIDTHS, 16, 48])
def test_fifteen_stages_of_the_ruler_cover_so16_on_groups_of_16_wires(width):
    blocks = sm.block_diagonal(width, 16)
    net = ruler_prefix(width)
    assert (net.depth, net.parameters) == (15, blocks.parameters)
    assert (sm.reach(net) == sm.reach(blocks)).all()
    assert sm.dimension(ruler_prefix(16)).value == 120  # all of SO(16)


def test_the_ruler_needs_an_even_width():
    assert ruler_prefix(12) == sm.ruler(4).direct_sum(sm.ruler(4)).direct_sum(sm.ruler(4))
    with pytest.raises(WidthError, match=r"ruler\(width=1, block=2\)"):
        ruler_prefix(15)


def test_dora_and_hra_have_about_as_many_parameters_as_lora():
    lora = 6 * 4 * (4 * 768 + 2 * 1920)
    # DoRA: a rank of 3 for square layers and up, 4 for down, and a magnitude for each output.
    dora = 6 * (4 * 3 * 768 + 3 * 1920 + 4 * 1920 + 5 * 384 + 1536)
    hra = 6 * 8 * (5 * 384 + 1536)
    head = 6 * 384 + 6
    source = pretrained()
    for name, count in (("lora", lora), ("dora", dora), ("hra", hra)):
        model = named(name).prepare(source.classifier([*"abcdef"]))
        assert trainable(model) == count + head
        assert count == pytest.approx(155_520, rel=0.07)  # OFT with blocks of 16


@pytest.mark.parametrize("name", ["dora", "hra", "ruler"])
def test_a_trained_model_merges_into_a_plain_model(tiny_model, name):
    source = pretrained(str(tiny_model))
    method = named(name)
    model = method.prepare(source.classifier([*"ab"])).eval()
    plain = source.classifier([*"ab"]).model.eval()
    ids = torch.arange(100, 120)[None]
    with torch.no_grad():
        before = plain(ids).logits
        assert torch.allclose(model(ids).logits, before, atol=1e-5)  # before training, equal
        torch.manual_seed(0)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)
        after, merged = model(ids).logits, method.merged(model)
        assert not torch.allclose(after, before, atol=1e-2)
        assert torch.allclose(merged(ids).logits, after, atol=1e-4)
    assert type(merged) is type(plain)
    error = method.orthogonality_error(model)
    assert error is None if name == "dora" else 0 < error < 1e-5


@pytest.mark.parametrize("width", WIDTHS)
def test_the_torus_rotates_each_wire_with_its_four_neighbours_only(width):
    once = torus(width, repeat=1)
    pairs = {frozenset(map(int, row)) for bank in once.banks for row in bank.reads}
    rows, columns = {384: (16, 24), 1536: (32, 48)}[width]
    expected = nx.grid_graph((rows, columns), periodic=True)
    drawn = nx.Graph([tuple(pair) for pair in pairs])
    assert nx.is_isomorphic(drawn, expected)
    assert once.depth == 4


def test_given_rates_override_the_defaults():
    both = methods.with_rates((named("lora"), named("boft")), {"lora": 0.5})
    assert [method.rate for method in both] == [0.5, named("boft").rate]


def test_methods_with_equal_fields_are_equal():
    assert Method("a", "A", "head", 0.1) == Method("a", "A", "head", 0.1)
