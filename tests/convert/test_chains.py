"""Conversion along any chain of formats preserves the weights."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import structmat as sm
from structmat.adapters import adapt, load_adapter, save_adapter
from structmat.convert import convert
from structmat.testing import seeds
from tests.convert.models import effective, same
from tests.random_modules import randomised

pytest.importorskip("safetensors")
pytest.importorskip("peft")

FORMATS = {
    "inputs": ["structmat", "peft", "peft-boft", "peft-oft", "kohya"],
    "outputs": ["structmat", "peft", "kohya", "comfyui", "lycoris"],
}
SINGLE = ("kohya", "comfyui", "lycoris", "gsoft")


def make():
    torch.manual_seed(0)
    return nn.ModuleDict({"block": nn.ModuleDict({"to_q": nn.Linear(16, 16)})})


@st.composite
def chains(draw):
    """Draw a side, and formats that support it, possibly preceded by one with two stages."""
    side = draw(st.sampled_from(sorted(FORMATS)))
    chain = draw(st.lists(st.sampled_from(FORMATS[side]), min_size=1, max_size=4))
    starts_long = side == "inputs" and draw(st.booleans())
    return side, ["gsoft", "peft-oft", *chain] if starts_long else chain


@given(chains(), st.sampled_from([2, 4, 8]), seeds())
@settings(max_examples=10)
def test_any_chain_of_formats_preserves_the_weights(tmp_path_factory, chain, block, seed):
    side, formats = chain
    folder = tmp_path_factory.mktemp("chain")
    net = sm.families.block_diagonal(16, block=block)
    one = randomised(adapt(make(), net, target_modules=["to_q"], side=side), seed)
    save_adapter(one, folder / "0")
    place = folder / "0"
    for k, to in enumerate([*formats, "structmat"], start=1):
        if to == "structmat" and place.is_dir() and (place / "adapter.json").exists():
            continue
        target = folder / (f"{k}.safetensors" if to in SINGLE else str(k))
        convert(place, target, to=to, model=make())
        place = target
    again = load_adapter(make(), place)
    same(effective(again), effective(one), 3e-6 * (1 + len(formats)))
