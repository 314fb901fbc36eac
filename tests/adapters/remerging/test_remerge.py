"""Rotations that are merged into the weights during training."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import structmat as sm
from structmat.adapters import (
    Remerge,
    adapt,
    adapters,
    load_adapter,
    merge,
    pair_rounds,
    random_rounds,
    save_adapter,
    stage_rounds,
    unmerge,
)
from structmat.adapters.checkpoint import read_adapter, write_adapter
from structmat.adapters.remerging.remerge_files import write_remerge
from structmat.errors import FileError, StructmatError, WidthError
from structmat.testing import networks, seeds
from tests.adapters.tied_models import IDS, llama
from tests.random_modules import randomised

X = torch.randn(6, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def plain(dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 24), nn.Tanh(), nn.Linear(24, 4)).to(dtype)


def adapted(topology="random(block=4, depth=1, rng=0)", **options):
    return adapt(plain(), topology, **{"side": "both", "generator_scaling": "none"} | options)


def trained(model):
    return [p for p in model.parameters() if p.requires_grad]


def train(model, optimizer, steps, remerge=None, x=X):
    """Train on a fixed target, and return the losses."""
    losses = []
    for _ in range(steps):
        loss = (model(x) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if remerge is not None:
            remerge.step()
        losses.append(loss.item())
    return losses


def generators(model):
    return [
        g for layer in adapters(model).values() for r in layer.rotations() for g in r.generators
    ]


# A round ----------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(networks(max_width=12, wired=False), seeds(), st.sampled_from(["inputs", "outputs", "both"]))
def test_merging_changes_weights_but_not_outputs(net, seed, side):
    torch.manual_seed(seed % 1000)
    model = nn.Linear(net.width, net.width).double()
    weight = model.weight.detach().clone()
    model = randomised(adapt(model, net, target_modules=".*", side=side), seed)
    x = torch.randn(3, net.width, dtype=torch.float64)
    before = model(x)
    Remerge(model).merge()
    torch.testing.assert_close(model(x), before, rtol=1e-12, atol=1e-12)
    assert all(not g.any() for g in generators(model))
    now = model.base_layer.weight
    torch.testing.assert_close(torch.linalg.svdvals(now), torch.linalg.svdvals(weight))
    assert not net.parameters or not torch.equal(now, weight)


class Many(nn.Module):
    """One layer of each kind."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 8)
        self.conv = nn.Conv1d(8, 16, 3, padding=1, groups=2)
        self.linear = nn.Linear(16, 12)
        self.head = nn.Linear(12, 3)

    def forward(self, tokens):
        return self.head(torch.tanh(self.linear(self.conv(self.embed(tokens).mT).mT)))


@pytest.mark.parametrize("parametrization", ["cayley", "exp", "givens", "householder"])
@pytest.mark.parametrize("options", [{}, {"scale": True, "bias": True}, {"reduced": True}])
def test_layers_of_all_kinds_are_merged_in_each_round(parametrization, options):
    torch.manual_seed(0)
    model = adapt(
        Many().double(),
        "mixed_radix",
        target_modules=["embed", "conv", "linear"],
        parametrization=parametrization,
        **options,
    )
    remerge = Remerge(model, [lambda d: sm.families.deal(d, block=4, depth=3), "mixed_radix"])
    tokens = torch.arange(10).view(2, 5)
    for number in range(3):
        randomised(model, number)
        before = model(tokens)
        remerge.merge()
        torch.testing.assert_close(model(tokens), before, rtol=1e-10, atol=1e-10)
        assert all(not g.any() for g in generators(model))
    assert remerge.round == 3
    assert merge(model, unload=True)(tokens).shape == (2, 5, 3)


def test_dropout_is_not_merged():
    model = randomised(adapted(dropout=(1.0, 0.5)), 0).train()
    expected = copy.deepcopy(model).eval()(X)
    Remerge(model).merge()
    torch.testing.assert_close(model.eval()(X), expected, rtol=1e-10, atol=1e-10)


def test_complex_weights_are_rotated_by_unitary_matrices():
    torch.manual_seed(0)
    layer = nn.Linear(6, 6, dtype=torch.complex128)
    values = torch.linalg.svdvals(layer.weight)
    model = randomised(adapt(layer, "mixed_radix", target_modules=".*", side="both"), 1)
    x = torch.randn(4, 6, dtype=torch.complex128)
    before = model(x)
    Remerge(model).merge()
    torch.testing.assert_close(model(x), before)
    torch.testing.assert_close(torch.linalg.svdvals(model.base_layer.weight), values)


# Equivalence ------------------------------------------------------------------------------------


def cayley(numbers, size):
    """Return the Cayley transform of each row of upper triangles."""
    q = torch.zeros(len(numbers), size, size, dtype=numbers.dtype)
    i, j = torch.triu_indices(size, size, 1)
    q = q.index_put((torch.arange(len(numbers))[:, None], i, j), numbers)
    q = q - q.mT
    one = torch.eye(size, dtype=numbers.dtype)
    return torch.linalg.solve(one + q, one - q)


def rotation(numbers, wires, width):
    """Return the dense matrix of one stage of blocks."""
    blocks = cayley(numbers, wires.shape[1])
    r = torch.eye(width, dtype=numbers.dtype)
    for block, row in zip(blocks, torch.from_numpy(wires.copy()), strict=True):
        r = r.index_put((row[:, None], row[None]), block)
    return r


@pytest.mark.parametrize("schedule", [None, random_rounds(4, seed=5)])
@pytest.mark.parametrize("every", [1, 3])
def test_training_equals_that_of_dense_matrices(schedule, every):
    model = adapted(random_rounds(4, seed=5)(0))
    optimizer = torch.optim.SGD(trained(model), lr=0.1)
    remerge = Remerge(model, schedule, every=every, optimizer=optimizer)
    found = train(model, optimizer, 7, remerge)

    own = plain()
    weights = [own[0].weight.detach(), own[2].weight.detach()]
    expected = []
    for step in range(7):
        if step % every == 0:
            spec = random_rounds(4, seed=5)(0 if schedule is None else step // every)
            nets = {d: sm.network(spec, d).banks[0].reads for d in (4, 12, 24)}
            free = [
                [
                    torch.zeros(len(nets[d]), 6, dtype=torch.float64, requires_grad=True)
                    for d in shape
                ]
                for shape in (w.T.shape for w in weights)
            ]
        y = X
        rotated = []
        for k, (w, (inputs, outputs)) in enumerate(zip(weights, free, strict=True)):
            p = rotation(outputs, nets[w.shape[0]], w.shape[0])
            r = rotation(inputs, nets[w.shape[1]], w.shape[1])
            rotated.append(p @ w @ r.T)
            y = y @ rotated[-1].T + own[2 * k].bias.detach()
            y = torch.tanh(y) if k == 0 else y
        loss = (y - 1).square().mean()
        loss.backward()
        with torch.no_grad():
            for g in (g for pair in free for g in pair):
                g -= 0.1 * g.grad
                g.grad = None
        expected.append(loss.item())
        if (step + 1) % every == 0:
            weights = [
                (
                    rotation(outputs, nets[w.shape[0]], w.shape[0])
                    @ w
                    @ rotation(inputs, nets[w.shape[1]], w.shape[1]).T
                ).detach()
                for w, (inputs, outputs) in zip(weights, free, strict=True)
            ]
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=1e-12, atol=0)
    assert expected[-1] < 0.9 * expected[0]


# Precision --------------------------------------------------------------------------------------


def drift(dtype, rounds, **options):
    """Return the relative change in the singular values of a weight after many rounds."""
    torch.manual_seed(0)
    layer = nn.Linear(16, 16).to(dtype)
    before = torch.linalg.svdvals(layer.weight.detach().double())
    model = adapt(layer, random_rounds(8)(0), target_modules=".*", side="both")
    remerge = Remerge(model, random_rounds(8), **options)
    for number in range(rounds):
        randomised(model, number, 0.1)
        remerge.merge()
    after = torch.linalg.svdvals(layer.weight.detach().double())
    return float((after - before).norm() / before.norm())


def test_singular_values_are_preserved_over_many_rounds():
    assert drift(torch.float64, 50) < 1e-14
    assert drift(torch.float32, 50) < 1e-6


def test_float32_copies_prevent_drift_of_16_bit_weights():
    eps = torch.finfo(torch.bfloat16).eps
    accumulated, rounded = (drift(torch.bfloat16, 50, accumulate=a) for a in (True, False))
    assert accumulated < eps / 2  # the weight is rounded once
    assert rounded > 3 * accumulated


def test_a_weight_loaded_after_a_merge_replaces_its_float32_copy():
    torch.manual_seed(0)
    model = adapt(nn.Linear(8, 8).bfloat16(), "mixed_radix", target_modules=".*")
    remerge = Remerge(model)
    randomised(model, 0)
    remerge.merge()
    with torch.no_grad():
        model.base_layer.weight.copy_(torch.eye(8))
    randomised(model, 1)
    expected = model.rotation.matrix().T
    remerge.merge()
    torch.testing.assert_close(model.base_layer.weight.float(), expected, rtol=0, atol=4e-3)


# The optimiser ----------------------------------------------------------------------------------


@pytest.mark.parametrize("moments", ["reset", "keep"])
@pytest.mark.parametrize("schedule", [None, random_rounds(4)])
def test_moments_are_kept_only_on_request_and_for_the_same_network(moments, schedule):
    model = adapted(random_rounds(4)(0))
    optimizer = torch.optim.Adam(trained(model), lr=0.01)
    remerge = Remerge(model, schedule, every=3, optimizer=optimizer, moments=moments)
    train(model, optimizer, 2, remerge)
    before = generators(model)
    state = {g: optimizer.state[g]["exp_avg"].clone() for g in before}
    assert all(value.any() for value in state.values())
    train(model, optimizer, 1, remerge)
    assert generators(model) == before  # the same parameters
    assert all(not g.any() and g.grad is None for g in before)
    kept = moments == "keep" and schedule is None
    assert [int(optimizer.state[g]["step"]) for g in before if optimizer.state[g]] == 4 * kept * [3]
    train(model, optimizer, 1, remerge)
    assert {int(optimizer.state[g]["step"]) for g in before} == {4 if kept else 1}


def test_parameters_of_new_shapes_take_the_places_of_the_old_ones():
    topologies = [
        "block_diagonal(block=4)",
        "butterfly(block=2, depth=2)",
        "block_diagonal(block=2)",
    ]
    model = adapted(topologies[0], trainable=["2"], target_modules=["0"])
    head = list(model[2].parameters())
    groups = [{"params": generators(model), "lr": 0.02}, {"params": head, "lr": 0.01}]
    optimizer = torch.optim.Adam(groups)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    remerge = Remerge(model, topologies, every=2, optimizer=optimizer)
    old = generators(model)
    losses = []
    for _ in range(6):
        losses += train(model, optimizer, 2, remerge)
        scheduler.step()
        first, second = (group["params"] for group in optimizer.param_groups)
        assert list(map(id, first)) == list(map(id, generators(model)))
        assert second == head
        assert set(optimizer.state) <= {*first, *head}
    assert all(a is not b for a in old for b in generators(model)[2:])
    assert losses[-1] < 0.5 * losses[0]
    rates = [group["lr"] for group in optimizer.param_groups]
    assert rates == pytest.approx([0.02 * 0.9**6, 0.01 * 0.9**6])


def test_parameters_in_groups_of_their_own_stay_in_one_group():
    """Otherwise, an optimiser would change them several times in each step."""
    topologies = ["random(block=4, depth=2, rng=1)", "block_diagonal(block=2)"]
    model = adapted(topologies[0], side="inputs")
    optimizer = torch.optim.Adam([{"params": [p]} for p in trained(model)])
    remerge = Remerge(model, topologies, every=1, optimizer=optimizer)
    for _ in range(3):
        train(model, optimizer, 1, remerge)
        held = [p for group in optimizer.param_groups for p in group["params"]]
        assert sorted(map(id, held)) == sorted(map(id, generators(model)))


def test_planned_rounds_train_better_than_a_fixed_partition():
    losses = {}
    for name, schedule in (("fixed", None), ("planned", pair_rounds(4))):
        model = adapted("block_diagonal(block=4)", target_modules=["0"])
        optimizer = torch.optim.SGD(trained(model), lr=0.3)
        remerge = Remerge(model, schedule, every=5, optimizer=optimizer)
        losses[name] = train(model, optimizer, 60, remerge)[-1]
    assert losses["planned"] < losses["fixed"]


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiled_models_follow_the_rounds():
    model = adapted("block_diagonal(block=4)").float()
    compiled = torch.compile(model, backend="aot_eager")
    optimizer = torch.optim.SGD(trained(model), lr=0.1)
    remerge = Remerge(compiled, pair_rounds(4), every=1, optimizer=optimizer)
    for _ in range(3):
        train(compiled, optimizer, 1, remerge, X.float())
        torch.testing.assert_close(compiled(X.float()), model(X.float()))


# Saving and loading -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_training_continues_exactly_from_a_saved_directory(tmp_path, dtype):
    def start():
        model = adapt(plain(dtype), random_rounds(4)(0), side="both", scale=True)
        optimizer = torch.optim.Adam(trained(model), lr=0.02)
        return model, optimizer, Remerge(model, random_rounds(4), every=2, optimizer=optimizer)

    x = X.to(dtype)
    model, optimizer, remerge = start()
    train(model, optimizer, 5, remerge, x)
    remerge.save(tmp_path)
    state = copy.deepcopy(optimizer.state_dict())
    expected = train(model, optimizer, 5, remerge, x)

    again, optimizer, resumed = start()
    resumed.load(tmp_path)
    assert (resumed.round, resumed.steps) == (2, 5)
    optimizer.load_state_dict(state)
    assert train(again, optimizer, 5, resumed, x) == expected
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_saved_adapters_contain_the_merged_weights(tmp_path):
    model = randomised(adapted(), 0)
    remerge = Remerge(model, random_rounds(4))
    remerge.merge()
    randomised(model, 1)
    loaded = load_adapter(plain(), save_adapter(model, tmp_path))
    assert torch.equal(loaded(X), model(X))
    torch.testing.assert_close(merge(loaded, unload=True)(X), model(X))


def test_tied_weights_are_separated_before_they_are_rotated(tmp_path):
    torch.manual_seed(0)
    model = llama()
    head = model.lm_head.weight.detach().clone()
    model = adapt(model, "mixed_radix", target_modules=["embed_tokens"])
    remerge = Remerge(model)
    randomised(model, 0)
    before = model(IDS).logits
    remerge.merge()
    torch.testing.assert_close(model(IDS).logits, before)
    assert torch.equal(model.lm_head.weight, head)

    torch.manual_seed(0)
    loaded = load_adapter(llama(), save_adapter(model, tmp_path))
    assert torch.equal(loaded.lm_head.weight, head)
    assert torch.equal(loaded(IDS).logits, model(IDS).logits)
    whole = merge(loaded, unload=True)
    assert not whole.config.tie_word_embeddings


def test_directories_that_do_not_fit_are_refused(tmp_path):
    remerge = Remerge(adapted(), random_rounds(4, seed=1))
    remerge.merge()
    remerge.save(tmp_path)
    with pytest.raises(
        FileError, match="yields another network for 0 in round 1; use the schedule"
    ):
        Remerge(adapted(), random_rounds(4, seed=2)).load(tmp_path)
    with pytest.raises(FileError, match="0 has another weight, side or option"):
        Remerge(adapted(side="inputs"), random_rounds(4, seed=1)).load(tmp_path)
    with pytest.raises(FileError, match="2 is adapted in only one of the two"):
        Remerge(adapted(target_modules=["0"]), random_rounds(4, seed=1)).load(tmp_path)
    with pytest.raises(FileError, match=r"expected a directory written by Remerge\.save"):
        Remerge(adapted()).load(save_adapter(adapted(), tmp_path / "adapter"))
    save_adapter(adapted(), tmp_path)
    with pytest.raises(FileError, match=r"adapter.safetensors was not saved together with remerge"):
        Remerge(adapted(), random_rounds(4, seed=1)).load(tmp_path)


@pytest.mark.parametrize("difference", ["shape", "merged", "dtype", "NaN"])
def test_a_failed_load_changes_nothing(tmp_path, difference):
    def start(classes=3):
        model = nn.Sequential(*plain(), nn.BatchNorm1d(4), nn.Linear(4, classes)).double()
        model = adapt(
            model,
            random_rounds(4)(0),
            target_modules=["0", "2"],
            trainable=["4"],
            side="both",
        )
        optimizer = torch.optim.Adam(trained(model), lr=0.02)
        return model, optimizer, Remerge(model, random_rounds(4), every=2, optimizer=optimizer)

    model, optimizer, remerge = start()
    train(model, optimizer, 2, remerge)
    remerge.save(tmp_path)
    if difference in ("dtype", "NaN"):
        saved, tensors = read_adapter(tmp_path)
        if difference == "NaN":
            tensors["4.weight"][0, 0] = torch.nan
        else:
            tensors["3.num_batches_tracked"] = torch.tensor(1j)
        write_adapter(tmp_path, saved, tensors)
        write_remerge(tmp_path, remerge.round, remerge.steps, remerge.copies)

    model, optimizer, other = start(classes=5 if difference == "shape" else 3)
    train(model, optimizer, 1, other)
    if difference == "merged":
        merge(model)
    parameters = list(model.parameters())
    before, moments = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    message = {
        "shape": r"4.weight has shape \(3, 4\) in the file",
        "merged": "0 is merged: call unmerge",
        "dtype": "3.num_batches_tracked has dtype torch.complex64 in the file",
        "NaN": "4.weight contains NaN",
    }
    with pytest.raises(StructmatError, match=message[difference]):
        other.load(tmp_path)
    assert (other.round, other.steps, other.resumed) == (0, 1, False)
    assert list(map(id, model.parameters())) == list(map(id, parameters))
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    torch.testing.assert_close(optimizer.state_dict()["state"], moments["state"], rtol=0, atol=0)


# Refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every must be an integer ≥ 1"),
        ({"moments": "warm"}, "moments='warm': it must be"),
        ({"schedule": "monarch"}, "it must be a list of topologies"),
        (
            {"schedule": ["monarch(radices=(5, 5))"]},
            r"round 0, 0: monarch.*the radices' product 25",
        ),
        ({"schedule": lambda number: number}, "round 0: topology=0: it must be a spec"),
        ({"optimizer": "adam"}, "optimizer='adam': it must be a torch.optim.Optimizer"),
        ({"accumulate": "yes"}, "accumulate='yes': accumulate must be True or False"),
        (
            {"schedule": stage_rounds(lambda width: sm.Network.of(width, []))},
            "round 0, 0: the topology has no stages at width 12",
        ),
    ],
)
def test_invalid_arguments_are_refused(options, message):
    model = adapted()
    before = [copy.deepcopy(p) for p in model.parameters()]
    with pytest.raises(StructmatError, match=message):
        Remerge(model, **options)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_diverged_model_is_refused_unchanged():
    model = adapted()
    with torch.no_grad():
        generators(model)[-1].fill_(torch.nan)
    with pytest.raises(StructmatError, match=r"2: .*NaN"):
        Remerge(model)
    assert not any(layer.saves_base for layer in adapters(model).values())


def test_topologies_of_later_rounds_are_checked_before_anything_changes():
    model = adapted()
    remerge = Remerge(model, lambda number: ["block_diagonal(block=4)", "benes"][number])
    randomised(model, 0)
    before = model(X)
    with pytest.raises(WidthError, match="round 1, 0: benes"):
        remerge.merge()
    assert torch.equal(model(X), before)
    assert remerge.round == 0


@pytest.mark.parametrize("broken", ["0", "2"])
@pytest.mark.parametrize("scale", [False, True])
def test_an_interrupted_merge_does_not_change_the_function(monkeypatch, broken, scale):
    model = adapted(scale=scale)
    remerge = Remerge(model, random_rounds(4))
    randomised(model, 0)
    before = model(X)

    def interrupted(*_):
        raise KeyboardInterrupt("by the user")

    with monkeypatch.context() as patched:
        patched.setattr(adapters(model)[broken], "merged_weight", interrupted)
        with pytest.raises(KeyboardInterrupt, match="by the user"):
            remerge.merge()
    assert remerge.round == 0
    torch.testing.assert_close(model(X), before, rtol=0, atol=1e-12)
    remerge.merge()
    assert remerge.round == 1
    assert not any(g.any() for g in generators(model))
    torch.testing.assert_close(model(X), before, rtol=0, atol=1e-12)


def test_a_damaged_weight_does_not_leave_a_layer_rotated_twice():
    model = adapted()
    remerge = Remerge(model, random_rounds(4))
    randomised(model, 0)
    first = adapters(model)["0"].effective(["default"])
    adapters(model)["2"].base_layer.weight.data[0, 0] = torch.nan
    with pytest.raises(StructmatError, match="2: NaNs detected"):
        remerge.merge()
    torch.testing.assert_close(
        adapters(model)["0"].effective(["default"]), first, rtol=0, atol=1e-12
    )


def test_models_that_cannot_be_merged_are_refused():
    with pytest.raises(StructmatError, match="the model has no adapters"):
        Remerge(plain())
    model = adapted()
    remerge = Remerge(model)
    merge(model)
    with pytest.raises(StructmatError, match=r"0 is merged: call unmerge\(model\) first"):
        remerge.merge()
    unmerge(model)
    layer = adapters(model)["0"]
    for change, undo in (
        (lambda: layer.keep_stages("default", []), lambda: layer.keep_stages("default", None)),
        (lambda: layer.set_scale("default", 0.5), lambda: layer.set_scale("default", 1)),
    ):
        change()
        with pytest.raises(StructmatError, match="0 is raised to a power or restricted"):
            remerge.merge()
        undo()
    generators(model)[0].data.fill_(float("nan"))
    with pytest.raises(StructmatError, match="0: NaNs detected"):
        remerge.merge()


def test_adapters_of_peft_are_refused():
    peft = pytest.importorskip("peft")
    from structmat.peft import StructmatConfig

    config = StructmatConfig(topology="mixed_radix", target_modules=["0"])
    with pytest.raises(StructmatError, match="was adapted by PEFT, whose checkpoints contain"):
        Remerge(peft.get_peft_model(plain(), config))


def test_optimizers_that_do_not_train_the_rotations_are_refused():
    model = adapted()
    with pytest.raises(StructmatError, match="Remerge has no optimizer"):
        Remerge(model).step()
    optimizer = torch.optim.SGD(trained(model))
    remerge = Remerge(model, ["block_diagonal(block=2)"])  # replaces the parameters
    remerge.optimizer = optimizer
    with pytest.raises(StructmatError, match="0: the optimizer does not train the rotations"):
        remerge.step()


def test_several_processes_need_generators_of_equal_shapes(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    Remerge(adapted(), random_rounds(4)).merge()
    halves = ["block_diagonal(block=2)", "block_diagonal(block=4)"]
    remerge = Remerge(adapted(), halves)  # before the model is wrapped, shapes may change
    message = r"from the shapes \[\(6, 1\)\] to \[\(3, 6\)\], but several processes train"
    with pytest.raises(StructmatError, match=message):
        remerge.merge()
    with pytest.raises(StructmatError, match="but several processes train"):
        Remerge(nn.DataParallel(adapted()), halves)
