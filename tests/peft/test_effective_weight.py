"""Reading the weight of merged, disabled, scaled or several adapters gives the effective weight."""

import copy
import warnings

import numpy as np
import peft
import pytest
import torch
from torch import nn

from structmat.errors import StructmatError
from structmat.linalg import factors as stagewise
from structmat.peft import StructmatConfig, StructmatLayer
from tests.peft.single_layers import LAYERS, adapted, inputs

kinds = pytest.mark.parametrize("kind", LAYERS)


def also_disabled(model):
    model.base_model.disable_adapter_layers()


def also_enabled(model):
    model.base_model.enable_adapter_layers()


def both_active(model):
    model.base_model.set_adapter(["one", "two"])


def scaled(model):
    model.base_model.model["layer"].set_scale("one", 0.5)


def without_stages(model):
    model.base_model.model["layer"].keep_stages("one", [])


def reloaded(model):
    model.load_state_dict(copy.deepcopy(model.state_dict()))


def merged(model):
    model.merge_adapter()


def second_merged(model):
    model.merge_adapter(["two"])


def unmerged(model):
    model.unmerge_adapter()


def second_active(model):
    model.set_adapter("two")


# The steps into each state, and the adapters that are then effective, in order, with their powers.
ONE, HALF, NOTHING, BOTH = [("one", 1)], [("one", 0.5)], [], [("one", 1), ("two", 1)]
STATES = {
    "adapted": ([], ONE),
    "disabled": ([also_disabled], NOTHING),
    "merged": ([merged], ONE),
    "merged, disabled": ([merged, also_disabled], NOTHING),
    "merged, disabled, enabled": ([merged, also_disabled, also_enabled], ONE),
    "disabled, merged": ([also_disabled, merged], NOTHING),
    "disabled, merged, scaled": ([also_disabled, merged, scaled], NOTHING),
    "disabled, merged, enabled": ([also_disabled, merged, also_enabled], ONE),
    "disabled, merged, unmerged": ([also_disabled, merged, unmerged], NOTHING),
    "disabled, merged twice, enabled": (
        [also_disabled, merged, second_merged, also_enabled],
        BOTH,
    ),
    "scaled": ([scaled], HALF),
    "scaled, merged": ([scaled, merged], HALF),
    "merged, scaled": ([merged, scaled], HALF),
    "merged, scaled, unmerged": ([merged, scaled, unmerged], HALF),
    "merged, without stages": ([merged, without_stages], NOTHING),
    "both": ([both_active], BOTH),
    "both, merged": ([both_active, merged], BOTH),
    "both, merged, disabled": ([both_active, merged, also_disabled], NOTHING),
    "merged twice": ([merged, second_merged], BOTH),
    "merged twice, unmerged": ([merged, second_merged, unmerged], ONE),
    "merged, reloaded": ([merged, reloaded], ONE),
    "merged, second active": ([merged, second_active], [("two", 1)]),
}
states = pytest.mark.parametrize("state", STATES)


def put_into(model, state):
    """Bring a model into a state and return the effective adapters; ignore warnings of PEFT."""
    steps, acting = STATES[state]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for step in steps:
            step(model)
    return acting


def by_hand(layer, own, acting):
    """Return the effective weight from dense matrices, in the layout of the layer's weight."""
    table = isinstance(layer.base_layer, nn.Embedding)
    turned = own.T if own.shape == (16, 8) and not table else own  # the Conv1D of transformers
    neurons = turned.reshape(len(turned), -1).numpy()
    for name, power in acting:
        for side in ("inputs", "outputs"):
            turns = getattr(layer, f"structmat_{side}")
            if name not in turns:
                continue
            q = dense(turns[name], power)
            # The rows of a table are what it puts out: both sides rotate them.
            neurons = neurons @ q.T if side == "inputs" or table else q @ neurons
        if name in layer.structmat_scale:
            scale = 1 + power * (layer.structmat_scale[name].detach().numpy() - 1)
            neurons = neurons * (scale if table else scale[:, None])
    made = torch.from_numpy(neurons).reshape(turned.shape)
    return made.T if turned is not own else made


def dense(turn, power):
    """Return the matrix of a rotation whose Cayley blocks are scaled as angles."""
    matrices = []
    for generators in turn.generators:
        count, size = generators.shape
        radix = int((1 + (1 + 8 * size) ** 0.5) / 2)
        q = np.zeros((count, radix, radix))
        upper = generators.detach().double() * turn.generator_scale
        q[:, *np.triu_indices(radix, 1)] = upper.numpy()
        q -= q.transpose(0, 2, 1)
        blocks = np.linalg.solve(np.eye(radix) - q, np.eye(radix) + q)
        values, vectors = np.linalg.eig(blocks)
        powers = np.exp(1j * power * np.angle(values))
        matrices.append(((vectors * powers[:, None]) @ np.linalg.inv(vectors)).real)
    return stagewise.matrix_of(turn.network, matrices)


def own_weight(kind):
    return adapted(kind)[0].unload()["layer"].weight.detach()


def near(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@kinds
@states
def test_every_way_of_reading_the_weight_gives_the_effective_weight(kind, state):
    model, layer = adapted(kind)
    own, x = own_weight(kind), inputs(kind)
    acting = put_into(model, state)
    expected = by_hand(layer, own, acting)
    plain = copy.deepcopy(layer.base_layer)
    plain.weight = nn.Parameter(expected)
    near(layer(x), plain(x))
    near(model.base_model.model["layer"].weight, expected)
    near(torch.func.functional_call(layer.base_layer, {"weight": layer.weight}, (x,)), plain(x))
    assert torch.equal(layer.own, own)
    held = expected if layer.merged and not layer.disable_adapters else own
    for reader in (
        layer.base_layer.weight,
        layer.get_base_weight(),
        model.state_dict()["base_model.model.layer.base_layer.weight"],
        dict(model.named_parameters())["base_model.model.layer.base_layer.weight"],
    ):
        near(reader, held)
    # Without a state: what an adapter is by itself.
    power = layer.structmat_power["one"]
    if state != "merged, without stages":
        near(layer.get_delta_weight("one"), by_hand(layer, own, [("one", power)]) - own)
    status = model.get_model_status()
    assert status.enabled is not layer.disable_adapters
    assert set(status.merged_adapters) == set(layer.merged_adapters)


@kinds
@states
def test_merge_and_unload_and_unload_are_correct_in_every_state(kind, state):
    model, layer = adapted(kind)
    own = own_weight(kind)
    put_into(model, state)
    names = list(dict.fromkeys([*layer.merged_adapters, *layer.active_adapters]))
    acting = [(name, layer.structmat_power[name]) for name in names]
    expected = by_hand(layer, own, [] if state == "merged, without stages" else acting)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is merged already
        for safe in (False, True):
            made = copy.deepcopy(model).merge_and_unload(safe_merge=safe)
            assert type(made["layer"]) is type(layer.base_layer)
            near(made["layer"].weight, expected)
        assert torch.equal(copy.deepcopy(model).unload()["layer"].weight, own)
        again = copy.deepcopy(model)
        if again.base_model.model["layer"].merged:
            again.unmerge_adapter()
    assert torch.equal(again.base_model.model["layer"].base_layer.weight, own)


def test_a_forward_pass_does_not_change_the_merged_adapters():
    model, layer = adapted("linear")
    also_disabled(model)
    merged(model)
    with torch.no_grad():
        layer(inputs("linear"))
    assert layer.merged_adapters == ["one"]
    assert model.get_model_status().merged_adapters == ["one"]


def test_loading_a_state_dict_into_a_merged_model_uses_the_loaded_adapter():
    model, layer = adapted("linear")
    x = inputs("linear")
    other = copy.deepcopy(model)
    with torch.no_grad():
        for g in other.base_model.model["layer"].structmat_inputs["one"].generators:
            g.add_(0.3)
    expected = other.base_model.model["layer"](x)
    merged(model)
    model.load_state_dict(other.state_dict())
    near(layer(x), expected)
    assert not layer.merged


@pytest.mark.parametrize("adapter", ["one", "two"])
def test_saving_a_merged_embedding_saves_its_unmerged_weight(adapter, tmp_path):
    """PEFT saves the weights of adapted embeddings with the adapter."""

    class Tables(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.embed_tokens = nn.Embedding(9, 16)

        def get_input_embeddings(self):
            return self.embed_tokens

        def get_output_embeddings(self):
            return None

        def forward(self, x):
            return self.embed_tokens(x)

    settings = StructmatConfig(
        topology="mixed_radix", target_modules=["embed_tokens"], init_weights=False
    )
    x, expected = torch.arange(9), Tables()(torch.arange(9))
    model = peft.get_peft_model(Tables(), settings, adapter)
    turned = model(x)
    model.merge_adapter()
    with pytest.warns(UserWarning, match="save_embedding_layers"):
        model.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(Tables(), tmp_path / adapter)
    torch.testing.assert_close(again(x), turned, rtol=1e-4, atol=1e-5)
    with again.disable_adapter():
        torch.testing.assert_close(again(x), expected)


READERS = {
    "attention": (
        lambda: nn.MultiheadAttention(16, 2, batch_first=True),
        ["out_proj"],
        lambda m, x: m(x, x, x)[0],
    ),
    "encoder": (
        lambda: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0), 1
        ),
        ["out_proj", "linear1", "linear2"],
        lambda m, x: m(x),
    ),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("state", [s for s in STATES if not {"both", "twice"} & set(s.split(", "))])
@pytest.mark.parametrize("training", [False, True])
def test_modules_that_read_weights_get_the_effective_weight(reader, state, training):
    make, targets, call = READERS[reader]
    torch.manual_seed(0)
    model = nn.ModuleDict({"layer": make()}).double().train(training)
    x = torch.randn(2, 5, 16, dtype=torch.float64)
    tuned = copy.deepcopy(model)
    settings = {"topology": "mixed_radix", "target_modules": targets, "init_weights": False}
    tuned = peft.get_peft_model(tuned, StructmatConfig(**settings), "one").train(training)
    tuned.add_adapter("two", StructmatConfig(**settings))
    layers = {n: m for n, m in tuned.base_model.model.named_modules() if is_layer(m)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for step in STATES[state][0]:
            if step in (scaled, without_stages):
                for layer in layers.values():
                    layer.set_scale("one", 0.5) if step is scaled else layer.keep_stages("one", [])
            else:
                step(tuned)
    for name, layer in layers.items():
        weight = by_hand(layer, layer.own.detach(), STATES[state][1])
        model.get_submodule(name).weight = nn.Parameter(weight)
    for gradients in (False, True):
        with torch.set_grad_enabled(gradients):
            near(call(tuned.base_model.model["layer"], x), call(model["layer"], x))


def is_layer(module):
    return isinstance(module, StructmatLayer)


def test_a_quantised_layer_can_be_merged_and_disabled():
    bnb = pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    linear = nn.Linear(64, 64)
    made = bnb.nn.Linear8bitLt(64, 64, has_fp16_weights=False)
    made.load_state_dict(linear.state_dict())
    settings = StructmatConfig(topology="mixed_radix", target_modules=["0"], init_weights=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what bitsandbytes lacks here
        model = peft.get_peft_model(nn.Sequential(made.to("cpu")), settings)
        layer, x = model.base_model.model[0], torch.randn(3, 64)
        own = layer.base_layer
        with torch.no_grad():
            plain, turned = own(x), model(x)
            for steps in ([merged, also_disabled], [also_disabled, merged]):
                for step in steps:
                    step(model)
                assert layer.base_layer is own
                assert torch.equal(model(x), plain)
                also_enabled(model)
                size = 0.02 * float(turned.abs().max() + plain.abs().max())
                torch.testing.assert_close(model(x), turned, rtol=0, atol=size)
                if layer.merged:
                    assert layer.base_layer is not own
                    model.unmerge_adapter()
        torch.testing.assert_close(layer.get_base_weight(), linear.weight, rtol=0, atol=0.01)


def test_get_delta_weight_of_an_unknown_adapter_is_refused():
    _, layer = adapted("linear")
    with pytest.raises(StructmatError, match=r"adapter 'thre': .*no adapter of this name; .*two"):
        layer.get_delta_weight("thre")
