"""Adapting whole models: selected layers, their networks, trained parameters, merging."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import structmat as sm
from structmat.adapters import adapt, adapters, merge, save_adapter, unmerge
from structmat.adapters.selection import select
from structmat.errors import SpecError, StructmatError, WidthError
from tests.random_modules import randomised, state, unchanged

transformers = pytest.importorskip("transformers")


def bert(classes=3):
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        num_labels=classes,
    )
    return transformers.BertForSequenceClassification(config).eval()


def gpt2():
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=32)
    return transformers.GPT2LMHeadModel(config).eval()


def tokens():
    return torch.randint(0, 50, (2, 7), generator=torch.Generator().manual_seed(0))


# Selected layers ------------------------------------------------------------------------------


def test_all_linear_leaves_the_classifier_out():
    names = list(select(bert()))
    assert len(names) == 2 * 6 + 1  # and the pooler
    assert "classifier" not in names
    assert "bert.pooler.dense" in names


def test_all_linear_takes_conv1d_and_leaves_the_tied_head_out():
    names = list(select(gpt2()))
    assert len(names) == 2 * 4
    assert not any("lm_head" in name for name in names)


def test_targets_may_be_a_regular_expression_or_a_list():
    model = bert()
    assert len(select(model, r".*\.(query|value)")) == 4
    assert len(select(model, ["query", "value"])) == 4
    assert list(select(model, ["0.attention.self.query"])) == [
        "bert.encoder.layer.0.attention.self.query"
    ]
    assert len(select(model, "all-linear", ["pooler.dense"])) == 12
    assert len(select(model, "all-linear", r".*\.layer\.1\..*")) == 7


@pytest.mark.parametrize(
    ("targets", "exclude", "message"),
    [
        (
            "nothing",
            None,
            "no layer is left to adapt; this model has 17 layers that can be adapted: bert",
        ),
        (
            "query",
            None,
            r"a string is a regular expression .* use \['query'\] to match the ends of names",
        ),
        (
            ["zzz"],
            None,
            r"; the choices are [a-z_]+(, [a-z_]+)*$",
        ),  # the last parts, without prefixes
        (["quary"], None, "'quary' matches no selectable layer .*; did you mean query"),
        ("all-linear", ["quary"], "exclude_modules: 'quary' matches no selectable layer"),
        ("all-linear", ".*", "no layer is left to adapt"),
        ("all-linear", "quary", "exclude_modules='quary' matches no layer of this model"),
        ("(", None, "is not a regular expression"),
        (["embeddings"], None, "'embeddings' matches no selectable layer"),
    ],
)
def test_targets_that_match_no_layer_are_refused(targets, exclude, message):
    model = bert()
    before = state(model)
    with pytest.raises(StructmatError, match=message):
        adapt(model, "mixed_radix", target_modules=targets, exclude_modules=exclude)
    assert unchanged(model, before)


# Topologies -----------------------------------------------------------------------------------


def test_topology_pattern_chooses_the_topology_by_name():
    model = adapt(
        bert(),
        "block_diagonal(block=4)",
        topology_pattern={
            r"intermediate\.dense": "butterfly(block=6, depth=2)",
            r"output\.dense": lambda width: sm.shuffle(width, block=width // 4),
            r"attention\.self\.key": "butterfly(block=6, depth=2) * 2 @ mirror(monarch)",
            r"attention\.self\.value": sm.parse("monarch") * 2,
            r"pooler\.dense": sm.benes(8).direct_sum(sm.benes(16)),
        },
    )
    depths = {name: a.rotation.network.depth for name, a in adapters(model).items()}
    assert depths["bert.encoder.layer.0.attention.self.query"] == 1
    assert depths["bert.encoder.layer.0.attention.self.key"] == 7
    assert depths["bert.encoder.layer.0.attention.self.value"] == 4
    assert depths["bert.encoder.layer.0.intermediate.dense"] == 2
    assert depths["bert.encoder.layer.1.output.dense"] == 2
    assert depths["bert.encoder.layer.1.attention.output.dense"] == 2  # also matches "output.dense"
    assert depths["bert.pooler.dense"] == 7


@pytest.mark.parametrize(
    ("pattern", "fitting"),
    [
        ("proj", ["proj", "block.proj"]),
        ("block.proj", ["block.proj"]),
        ("pro", None),
        ("roj", None),
        ("lock.proj", None),
        ("block", None),
        ("proj|x", ["proj", "block.proj"]),
        ("pr|projected", ["block.projected"]),
        (".*proj", ["proj", "block.proj", "block.preproj"]),
    ],
)
def test_a_pattern_matches_a_whole_name_or_its_last_parts(pattern, fitting):
    model = nn.ModuleDict({"proj": nn.Linear(4, 4)})
    names = ["proj", "projected", "preproj"]
    model["block"] = nn.ModuleDict({name: nn.Linear(4, 4) for name in names})
    options = {"topology_pattern": {pattern: "block_diagonal(block=4)"}}
    if fitting is None:
        with pytest.raises(StructmatError, match="matches none of the layers to be adapted"):
            adapt(model, "butterfly", **options)
        return
    found = adapters(adapt(model, "butterfly", **options))
    assert [name for name, a in found.items() if a.rotation.network.depth == 1] == fitting


@pytest.mark.parametrize("name", ["classifier", "score"])
def test_only_top_level_heads_are_excluded(name):
    model = nn.ModuleDict(
        {
            "a": nn.ModuleDict({name: nn.Linear(4, 4), "b": nn.Linear(4, 4)}),
            f"{name}s": nn.Linear(4, 4),
            name: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)),
        }
    )
    assert list(select(model)) == [f"a.{name}", "a.b", f"{name}s"]
    assert list(select(model, [f"{name}.2"])) == [f"{name}.2"]


def test_merging_and_unmerging_keep_weights_frozen():
    model = adapt(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), "butterfly", scale=True)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    merge(model)
    assert not any(a.base_layer.weight.requires_grad for a in adapters(model).values())
    assert [name for name, p in model.named_parameters() if p.requires_grad] == trained
    unmerge(model)
    assert not any(a.base_layer.weight.requires_grad for a in adapters(model).values())
    assert [name for name, p in model.named_parameters() if p.requires_grad] == trained
    plain = merge(model, unload=True)
    assert not any(p.requires_grad for p in plain.parameters())


def test_layers_of_one_width_share_one_network():
    model = adapt(bert(), "random(block=4, depth=2)")
    networks = {a.rotation.network for a in adapters(model).values()}
    assert {net.width for net in networks} == {24, 48}
    assert len(networks) == 2


@pytest.mark.parametrize(
    ("topology", "pattern", "error", "message"),
    [
        ("butterfly(block=4)", None, WidthError, r"query has 24 inputs: butterfly\(width=24"),
        (sm.butterfly(16), None, WidthError, "query has 24 inputs: the network has width 16"),
        ("buterfly", None, SpecError, "did you mean butterfly"),
        (7, None, StructmatError, "topology=7: it must be a spec string"),
        (lambda width: width, None, StructmatError, "returned 24: it must return a Network"),
        (
            "mixed_radix",
            {"quary": "monarch"},
            StructmatError,
            "'quary' matches none of the layers to be adapted",
        ),
        ("mixed_radix", {"(": "monarch"}, StructmatError, "is not a regular expression"),
        ("mixed_radix", {"query": "monarchy"}, SpecError, "did you mean monarch"),
    ],
)
def test_topologies_that_do_not_fit_are_refused(topology, pattern, error, message):
    model = bert()
    before = state(model)
    with pytest.raises(error, match=message):
        adapt(model, topology, topology_pattern=pattern)
    assert unchanged(model, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parametrization": "qr"}, "parametrization='qr': no such parametrization"),
        ({"dropout": (2.0, 0.0)}, "it must be two probabilities"),
        (
            {"trainable": ["clasifier"]},
            "trainable: 'clasifier' matches no selectable .* mean classifier",
        ),
        ({"trainable": "nothing"}, "trainable='nothing' matches no module"),
        ({"trainable": ["encoder"]}, "trainable: bert.encoder contains an adapted layer"),
    ],
)
def test_invalid_options_are_refused(options, message):
    model = bert()
    before = state(model)
    with pytest.raises(StructmatError, match=message):
        adapt(model, "mixed_radix", **options)
    assert unchanged(model, before)


@pytest.mark.parametrize(
    "call",
    [
        lambda model: adapt(model, "butterfly"),
        merge,
        lambda model: save_adapter(model, "nowhere"),
    ],
)
def test_a_string_in_place_of_a_model_is_refused(call):
    with pytest.raises(StructmatError, match=r"^model='bert': it must be a torch\.nn\.Module"):
        call("bert")


def test_adapting_an_adapted_model_is_refused():
    model = adapt(bert(), "mixed_radix")
    before = state(model)
    with pytest.raises(StructmatError, match="already has adapters: call merge"):
        adapt(model, "mixed_radix", target_modules=["classifier"])
    assert unchanged(model, before)


# Training and merging -------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "bias"), [(False, False), (True, False), (True, True)])
def test_generators_scales_biases_and_chosen_modules_are_trained(scale, bias):
    model = adapt(
        bert(), "butterfly(block=6, depth=2)", scale=scale, bias=bias, trainable=["classifier"]
    )
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    kinds = {"classifier.weight", "classifier.bias"}
    for name, adapter in adapters(model).items():
        kinds |= {f"{name}.structmat_inputs.default.generators.{k}" for k in range(2)}
        kinds |= {f"{name}.structmat_scale.default"} if scale else set()
        kinds |= {f"{name}.base_layer.bias"} if bias else set()
        assert all(g.dtype == torch.float32 for g in adapter.rotation.generators)
    assert trained == kinds


@pytest.mark.parametrize("build", [bert, gpt2])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_merging_unmerging_and_unloading_keep_the_outputs(build, dtype):
    model = build().to(dtype)
    with torch.no_grad():
        plain = model(tokens()).logits
        model = adapt(model, "shuffle(block=8)", scale=True, bias=True)
        start = model(tokens()).logits
        unmerged = randomised(model, 0, 0.2)(tokens()).logits
        merged = merge(model)(tokens()).logits
        restored = unmerge(model)(tokens()).logits
        unloaded = merge(model, unload=True)(tokens()).logits
    assert not adapters(model)
    assert not any("rotation" in name for name in model.state_dict())
    size = 500 * torch.finfo(dtype).eps * max(1.0, unmerged.abs().max().item())
    assert (start - plain).abs().max() <= size
    assert (unmerged - plain).abs().max() > 100 * torch.finfo(torch.float32).eps
    assert (merged - unmerged).abs().max() <= size
    assert torch.equal(restored, unmerged)
    assert torch.equal(unloaded, merged)


def test_an_unloaded_model_can_be_saved_and_loaded_by_transformers(tmp_path):
    model = merge(randomised(adapt(bert(), "monarch"), 0), unload=True)
    model.save_pretrained(tmp_path)
    again = transformers.BertForSequenceClassification.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(again.eval()(tokens()).logits, model(tokens()).logits)


def test_a_layer_used_twice_stays_one_layer():
    shared = nn.Linear(8, 8)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    x = torch.randn(3, 8)
    before = model(x)
    model = adapt(model, "butterfly")
    assert model[0] is model[2]
    torch.testing.assert_close(model(x), before)
    after = randomised(model, 0)(x)
    model = merge(model, unload=True)
    assert model[0] is model[2] is shared
    torch.testing.assert_close(model(x), after)


def test_a_layer_used_twice_is_selected_and_excluded_by_either_name():
    shared = nn.Linear(8, 8)
    model = nn.ModuleDict({"a": shared, "head": shared, "b": nn.Linear(8, 8)})
    assert list(adapters(adapt(model, "butterfly", exclude_modules="head"))) == ["b"]
    assert list(select(nn.ModuleDict({"a": shared, "head": shared}), ["head"])) == ["a"]


def test_patterns_may_contain_inline_flags():
    model = adapt(bert(), "mixed_radix", topology_pattern={"(?i)QUERY": "monarch"})
    depths = {n: a.rotation.network.depth for n, a in adapters(model).items()}
    assert depths["bert.encoder.layer.1.attention.self.query"] == 2
    assert depths["bert.encoder.layer.1.attention.self.key"] == 4


def test_complex_modules_can_be_trained():
    model = nn.ModuleDict({"a": nn.Linear(8, 8), "phase": nn.Linear(2, 2, dtype=torch.complex64)})
    adapt(model, "butterfly", target_modules=["a"], trainable=["phase"])
    assert model["phase"].weight.requires_grad


def test_merging_a_tied_head_leaves_the_embedding_unchanged():
    model = gpt2()
    assert model.lm_head.weight is model.transformer.wte.weight
    embedding = model.transformer.wte.weight.clone()
    model = randomised(adapt(model, "butterfly", target_modules=["lm_head"]), 0)
    merge(model)
    assert torch.equal(model.transformer.wte.weight, embedding)
    unmerge(model)
    assert model.lm_head.base_layer.weight is model.transformer.wte.weight


@pytest.mark.parametrize("undo", [merge, unmerge])
def test_merging_a_model_without_adapters_is_refused(undo):
    with pytest.raises(StructmatError, match="the model has no adapters"):
        undo(bert())


def test_a_failed_merge_leaves_all_weights_unmerged():
    model = randomised(adapt(bert(), "mixed_radix"), 0)
    last = list(adapters(model).values())[-1]
    with torch.no_grad():
        last.rotation.generators[0][0] = float("inf")
    before = [a.base_layer.weight for a in adapters(model).values()]
    with pytest.raises(
        StructmatError, match=r"bert\.pooler\.dense: NaNs detected in the merged weights"
    ):
        merge(model)
    assert all(
        a.base_layer.weight is w for a, w in zip(adapters(model).values(), before, strict=True)
    )


def test_a_copy_of_an_adapted_model_is_independent():
    model = randomised(adapt(bert(), "mixed_radix"), 0)
    other = copy.deepcopy(merge(model))
    unmerge(model)
    with torch.no_grad():
        expected = model(tokens()).logits
        torch.testing.assert_close(other(tokens()).logits, expected)
        torch.testing.assert_close(unmerge(other)(tokens()).logits, expected)


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_changes_no_gradient(reentrant):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 24))
    model = randomised(adapt(model, "butterfly(block=6, depth=2)", dropout=(0.5, 0.5)), 0)
    x = torch.randn(4, 24, requires_grad=True)

    def gradients(run):
        model.zero_grad()
        torch.manual_seed(1)  # the same blocks are dropped
        run().square().sum().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    plain = gradients(lambda: model(x))
    again = gradients(lambda: checkpoint(model, x, use_reentrant=reentrant))
    assert len(plain) == len(again) == 4
    for one, other in zip(plain, again, strict=True):
        torch.testing.assert_close(one, other)
