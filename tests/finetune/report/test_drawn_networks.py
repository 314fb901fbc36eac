import pytest

import structmat as sm
from structmat.errors import StructmatError
from structmat.finetune.methods import METHODS, MORE, ROTATION_RATE, rotation
from structmat.finetune.report.drawn_networks import caption, drawn, structure

WIDTHS = (384, 1536)
ROTATIONS = [method for method in METHODS + MORE if method.topology is not None]


def built(topology, width):
    return (sm.parse(topology) if isinstance(topology, str) else topology)(width)


@pytest.mark.parametrize("method", ROTATIONS, ids=lambda method: method.name)
def test_a_drawn_network_has_the_structure_of_the_one_in_the_model(method):
    net, used = drawn(method.topology, WIDTHS), built(method.topology, WIDTHS[0])
    assert structure(net) == structure(used)
    assert net.depth == used.depth
    assert sm.is_dense(net) == sm.is_dense(used)
    assert net == used or net.width <= 64
    if not sm.is_dense(used):  # the drawing shows that many wires are not influenced
        assert sm.reach(net).mean(axis=0).max() <= 0.5 or net == used


def test_boft_is_drawn_at_a_width_at_which_it_is_not_dense():
    net = drawn("butterfly(block=8, depth=2)", WIDTHS)
    assert net.width == 32
    assert not sm.is_dense(net)
    assert sm.is_dense(built("butterfly(block=8, depth=2)", 16))  # as the smallest one would be


def test_a_network_of_a_fixed_width_is_drawn_at_that_width(tmp_path):
    path = tmp_path / "net.json"
    path.write_text(sm.butterfly(32, block=4).to_json())
    topology = rotation(str(path)).topology
    assert drawn(topology, [32]) == sm.butterfly(32, block=4)
    with pytest.raises(StructmatError, match="32"):
        drawn(topology, [48])
    assert rotation(str(path)).rate == ROTATION_RATE


def test_the_caption_states_the_widths_shown_and_used_with_their_structure():
    nets = [built("shuffle(block=4)", width) for width in WIDTHS]
    assert caption("shuffle", nets[0], nets) == (
        "shuffle: drawn at width 384 (5 stages, dense), used at width 384 (5 stages, dense) and"
        " width 1,536 (6 stages, dense)"
    )
    nets = [built("block_diagonal(block=16)", width) for width in WIDTHS]
    assert caption("OFT", built("block_diagonal(block=16)", 32), nets).endswith(
        "used at widths 384 and 1,536 (1 stage, not dense)"
    )
