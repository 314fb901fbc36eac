"""Training in two processes equals training in one, and the saved adapter loads in one."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils.checkpoint import checkpoint

from structmat.adapters import adapters, load_adapter, save_adapter
from structmat.adapters.base_fingerprint import Fingerprint
from structmat.adapters.checkpoint import SETTINGS, TENSORS
from structmat.adapters.distributed import plain_name, unwrapped
from structmat.adapters.saved_tensors import trained_tensors
from structmat.errors import StructmatError
from tests.adapters import worker
from tests.timeouts import PATIENCE

pytest.importorskip("safetensors")

# Sums of eight float32 losses and gradients in another order, after five steps.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def launched(command, folder, runs):
    """Make runs in two processes that a module starts; show the output if they fail."""
    path = os.pathsep.join([str(Path(worker.__file__).parents[2]), *sys.path])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", *command, str(folder), *runs],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, f"{command} {runs} failed:\n{done.stdout}\n{done.stderr}"
    return folder


def said_in(folder):
    """Return what each of the two processes reported."""
    return [json.loads((folder / f"{rank}.json").read_text("utf-8")) for rank in (0, 1)]


TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]  # on a free port
# With --cpu, accelerate would start processes by MPI only; the script itself requests the CPU.
ACCELERATE = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
ACCELERATE += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
ACCELERATE += ["--main_process_port", "0"]


def check_like_one(folder, options=()):
    """Compare losses and the saved adapter with those of the run in this process."""
    found = said_in(folder)
    one = worker.adapted(options)
    expected = torch.tensor(worker.trained(one))
    for said in found:
        torch.testing.assert_close(torch.tensor(said["losses"]), expected, **CLOSE)
    assert len(set(said["losses"])) == worker.STEPS  # something was trained
    save_adapter(one, folder / "one")
    theirs, ours = (load_file(folder / name / TENSORS) for name in ("adapter", "one"))
    assert theirs.keys() == ours.keys()
    assert any(value.count_nonzero() for name, value in ours.items() if "generators" in name)
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value, **CLOSE, msg=name)
    settings = [json.loads((folder / n / SETTINGS).read_text("utf-8")) for n in ("adapter", "one")]
    prints = [
        {name: layer.pop("fingerprint") for name, layer in each["layers"].items()}
        for each in settings
    ]
    for each in settings:
        del each["tensors"]  # the checksum
    assert settings[0] == settings[1]
    if "remerge" in options:  # merged weights differ by rounding, and so do their fingerprints
        for name, data in prints[0].items():
            theirs, ours = (Fingerprint.from_dict(d) for d in (data, prints[1][name]))
            assert theirs.distance(ours) < 1e-5
    else:
        assert prints[0] == prints[1]
    loaded = load_adapter(worker.plain(), folder / "adapter").eval()
    x = next(worker.batches())[0]
    torch.testing.assert_close(loaded(x), one(x), rtol=1e-4, atol=1e-5)
    return found


DDP, FSDP1, PREPARED = "ddp,scale,bias,unused", "fsdp1,reduced,bias", "accelerate,reduced"
REMERGED = "ddp,remerge"
FSDP = ["fsdp,scale,bias,exp", "fsdp,each,reduced"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return the folder of the runs, which share two processes, because starting them is slow.

    accelerate, which uses torchrun, starts the processes; without accelerate, torchrun does.
    """
    folder, every = tmp_path_factory.mktemp("runs"), [DDP, REMERGED, *FSDP, FSDP1]
    if importlib.util.find_spec("accelerate") is None:
        return launched([*TORCHRUN, worker.__file__], folder, every)
    return launched([*ACCELERATE, worker.__file__], folder, [*every, PREPARED])


@pytest.mark.slow
@pytest.mark.parametrize("run", [DDP, REMERGED])
def test_data_parallel_training_equals_training_in_one_process(runs, run):
    check_like_one(runs / run, run.split(","))


@pytest.mark.slow
def test_training_with_accelerate_equals_training_in_one_process(runs):
    pytest.importorskip("accelerate")
    found = check_like_one(runs / PREPARED, ["reduced"])
    assert [said["kind"] for said in found] == 2 * ["DistributedType.MULTI_CPU"]


@pytest.mark.slow
@pytest.mark.parametrize("run", FSDP)
def test_fsdp_training_equals_training_in_one_process(runs, run):
    options = run.split(",")
    found = check_like_one(runs / run, options)
    size = sum(p.numel() for p in worker.adapted(options).parameters())
    assert sum(said["parts"] for said in found) == size  # each process held a part
    for said in found:
        assert said["there"] == sorted([SETTINGS, TENSORS])  # both, whichever process returns
        assert "sharded across several processes: merge the model before" in said["merge"]
        assert "sharded across several processes: adapt the model before" in said["adapt"]
        assert "sharded across several processes: adapt the model before" in said["load"]
        assert said["again"] < 1e-5
        assert "contains NaN or infinity" in said["broken"]  # also where all parts are finite
    assert not (runs / run / "broken").exists()


@pytest.mark.slow
def test_fsdp1_models_are_saved_only_with_gathered_parameters(runs):
    for said in check_like_one(runs / FSDP1, FSDP1.split(",")):
        assert "the parameters are sharded" in said["refused"]
    assert not (runs / FSDP1 / "parts").exists()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["1", "2", "3"])
def test_zero_training_equals_training_in_one_process(tmp_path, stage):
    pytest.importorskip("deepspeed")
    run = f"zero,{stage},scale,bias"
    launched([*TORCHRUN, worker.__file__], tmp_path, [run])
    for said in check_like_one(tmp_path / run, ["scale", "bias"]):
        if stage == "3":
            assert "the parameters are sharded" in said["refused"]
        else:
            assert said["refused"] is None


class Engine(nn.Module):
    """A stand-in for DeepSpeedEngine, which keeps its model as `module`."""

    def __init__(self, module):
        super().__init__()
        self.module = module


def compiled(module):
    return torch.compile(module, backend="eager")  # the default one is slow to load


@pytest.mark.parametrize(
    "wrap",
    [nn.DataParallel, compiled, type("DeepSpeedEngine", (Engine,), {})],
    ids=["DataParallel", "compile", "DeepSpeedEngine"],
)
def test_wrappers_do_not_change_the_saved_files(tmp_path, wrap):
    model = worker.adapted()
    assert unwrapped(wrap(model)) is model
    save_adapter(wrap(model), tmp_path / "around")
    save_adapter(model, tmp_path / "plain")
    for name in (TENSORS, SETTINGS):
        assert (tmp_path / "around" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()


def test_a_model_with_a_submodule_named_module_is_not_a_wrapper():
    model = Engine(worker.plain())
    assert unwrapped(model) is model


def test_wrapped_submodules_are_saved_under_their_plain_names(tmp_path):
    model = worker.adapted()
    model.blocks[0] = compiled(model.blocks[0])
    model.classifier = compiled(model.classifier)
    assert any("_orig_mod" in name for name in adapters(model))
    save_adapter(model, tmp_path)
    again = load_adapter(worker.plain(), tmp_path)
    assert {plain_name(name) for name in trained_tensors(model)} == trained_tensors(again).keys()


def test_saving_sharded_parameters_is_refused(tmp_path):
    model = worker.adapted()
    generators = model.blocks[1].up.rotation.generators
    generators[0].data = torch.empty(0)  # as FSDP1 and ZeRO-3 leave them between the steps
    message = r"blocks\.1\.up: .* shape \(0,\) instead of \(12, 1\).*GatheredParameters"
    with pytest.raises(StructmatError, match=message):
        save_adapter(model, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_activation_checkpointing_changes_no_gradient():
    def gradients(forward):
        model = worker.adapted(["scale"])
        for parameter in model.parameters():
            if parameter.requires_grad:
                nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(2))
        x, y = next(worker.batches())
        nn.functional.cross_entropy(forward(model, x), y).backward()
        return [p.grad for p in model.parameters() if p.requires_grad]

    again = gradients(lambda model, x: checkpoint(model, x, use_reentrant=False))
    for one, two in zip(gradients(nn.Module.__call__), again, strict=True):
        torch.testing.assert_close(one, two)
