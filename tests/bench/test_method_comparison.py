"""structmat's experiments in PEFT's comparison of methods."""

import contextlib
import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from structmat.bench import method_comparison as comparison
from structmat.bench import peft_experiments as experiments
from structmat.bench.peft_experiments import EXPERIMENTS, TASKS
from structmat.errors import FileError, StructmatError

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

ROOT = Path(__file__).parents[2]
TEXT = [experiment for experiment in EXPERIMENTS if experiment.task == "text"]
FIRST = TEXT[0]

# A stand-in for PEFT's program, with its file names, for a layer of 3,072 inputs.
PROGRAM = """
import json, sys
from pathlib import Path
import peft, torch
from torch import nn

folder = Path(sys.argv[-1])
assert sys.argv[1:-1] == ["-v", "--clean"]
behaviour = Path("behaviour").read_text()
if behaviour == "fails":
    sys.exit("no device")
config = peft.PeftConfig.from_pretrained(folder)
model = nn.ModuleDict({"q_proj": nn.Linear(3072, 8), "v_proj": nn.Linear(3072, 2)})
model = peft.get_peft_model(model, config)
count, _ = model.get_nb_trainable_parameters()
training = json.loads(Path("default_training_params.json").read_text())
own = folder / "training_params.json"
if own.exists():
    training |= json.loads(own.read_text())
log = {
    "run_info": {
        "train_config": training,
        "peft_config": config.to_dict(),
        "error_msg": "out of memory",
    },
    "train_info": {
        "num_trainable_params": count,
        "train_time": 12.5,
        "accelerator_memory_max": 2**30,
        "metrics": [{"test accuracy": 0.25, "forgetting": 0.5}],
    },
}
where = {"works": "results", "cancels": "cancelled_results"}
if behaviour in where:
    target = Path(where[behaviour])
    target.mkdir(exist_ok=True)
    name = "--".join(folder.parts[-2:])
    suffix = "" if behaviour == "works" else "--2026-01-01T00-00-00"
    (target / f"{name}{suffix}.json").write_text(json.dumps(log))
with Path("calls").open("a") as calls:
    calls.write("x")
"""


@pytest.fixture
def clone(tmp_path):
    task = tmp_path / "peft" / "method_comparison" / "MetaMathQA"
    (task / "results").mkdir(parents=True)
    (task / "run.py").write_text(PROGRAM)
    (task / "behaviour").write_text("works")
    (task / "default_training_params.json").write_text(json.dumps({"max_steps": 5, "seed": 0}))
    return tmp_path / "peft"


@pytest.fixture
def in_this_process(monkeypatch):
    """Run the program in this process, which saves the time of the imports."""

    def run(command, *, cwd, **_):
        monkeypatch.setattr(sys, "argv", command[4:])
        with contextlib.chdir(cwd):
            try:
                runpy.run_path(command[4], run_name="__main__")
            except SystemExit:
                return subprocess.CompletedProcess(command, 1)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(comparison.subprocess, "run", run)


def _task(clone):
    return clone / "method_comparison" / "MetaMathQA"


def _llama():
    config = transformers.LlamaConfig(
        vocab_size=128_256,
        hidden_size=3072,
        intermediate_size=8192,
        num_hidden_layers=28,
        num_attention_heads=24,
        num_key_value_heads=8,
        head_dim=128,
    )
    with torch.device("meta"):
        return transformers.LlamaForCausalLM(config)


def _flux():
    with torch.device("meta"):
        return diffusers.Flux2Transformer2DModel(
            num_layers=5, num_single_layers=20, num_attention_heads=24, joint_attention_dim=7680
        )


def _adapted(model, targets):
    """Return the linear layers whose names end with one of the targets, as PEFT selects them."""
    return [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and any(name == target or name.endswith(f".{target}") for target in targets)
    ]


@pytest.mark.parametrize(
    ("task", "model", "lora"),
    [("text", _llama, 9_175_040), ("image", _flux, 38_338_560)],
)
def test_layers_of_a_task_are_those_of_the_model(task, model, lora):
    built = model()
    for target, widths in TASKS[task].layers.items():
        found = [layer.in_features for _, layer in _adapted(built, [target])]
        assert {width: found.count(width) for width in set(found)} == widths
    # LoRA of rank 32 has the number of parameters that PEFT has published for this task.
    targets = ("q_proj", "v_proj") if task == "text" else tuple(TASKS[task].layers)
    sizes = [layer.in_features + layer.out_features for _, layer in _adapted(built, targets)]
    assert 32 * sum(sizes) == lora


def test_counts_agree_with_those_of_an_adapted_model():
    import peft

    with torch.device("meta"):
        tiny = nn.ModuleDict({"q_proj": nn.Linear(3072, 8), "v_proj": nn.Linear(3072, 2)})
    model = peft.get_peft_model(tiny, FIRST.config())
    count, _ = model.get_nb_trainable_parameters()
    assert 28 * count == FIRST.parameters


def test_names_are_unique_and_sizes_are_close_to_those_of_the_methods_beside_them():
    names = [(experiment.task, experiment.name) for experiment in EXPERIMENTS]
    assert len(set(names)) == len(names)
    published = {
        "oft/llama-3.2-3B-rank32": 8_171_520,
        "lora/llama-3.2-3B-rank32": 9_175_040,
        "lora/llama-3.2-3B-rank64-rslora": 18_350_080,
        "lora/llama-3.2-3B-rank10-target-mlp": 9_461_760,
        "oft/flux2-klein-default": 4_761_600,
        "lora/flux2-klein-default": 38_338_560,
    }
    for experiment in EXPERIMENTS:
        ratio = experiment.parameters / published[experiment.beside]
        if "default" not in experiment.name:  # the default has its own size
            assert 0.84 < ratio < 1.05, experiment.name


def test_experiment_runs_once_and_its_result_is_reused(clone, capfd):
    arguments = [str(clone), "--experiment", FIRST.name]
    assert comparison.main(arguments) == 0
    out = capfd.readouterr().out
    assert f"structmat/{FIRST.name}" in out
    assert "0.250 ± 0.012" in out
    assert f"{FIRST.parameters // 28:,}" in out
    assert comparison.main(arguments) == 0
    assert (_task(clone) / "calls").read_text() == "x"


def test_result_of_other_settings_is_not_reused(clone, in_this_process):
    for _ in range(2):
        comparison.run(FIRST, clone, again=True)
    assert (_task(clone) / "calls").read_text() == "xx"
    assert comparison.result(FIRST, clone) is not None
    for changed in (
        experiments.Experiment("text", FIRST.name, "monarch", FIRST.targets, ""),
        experiments.Experiment("text", FIRST.name, FIRST.topology, ("q_proj",), ""),
        experiments.Experiment(
            "text", FIRST.name, FIRST.topology, FIRST.targets, "", {"max_steps": 7}
        ),
    ):
        assert comparison.result(changed, clone) is None
    # A damaged file is not reused, either.
    next((_task(clone) / "results").glob("*.json")).write_text("{")
    assert comparison.result(FIRST, clone) is None


def test_training_settings_are_written_and_removed(clone):
    slow = experiments.Experiment(
        "text", FIRST.name, FIRST.topology, FIRST.targets, "", {"optimizer_kwargs": {"lr": 3e-4}}
    )
    folder = experiments.written(slow, clone)
    own = json.loads((folder / experiments.TRAINING).read_text())
    assert own == {"optimizer_kwargs": {"lr": 3e-4}}
    before = (folder / experiments.CONFIG).stat().st_mtime_ns
    experiments.written(FIRST, clone)
    assert not (folder / experiments.TRAINING).exists()
    assert (folder / experiments.CONFIG).stat().st_mtime_ns == before


def test_written_experiments_are_listed_and_nothing_runs(clone, capsys):
    assert comparison.main([str(clone), "--write"]) == 0
    out = capsys.readouterr().out
    for experiment in TEXT:
        assert f"{experiment.name}: {experiment.parameters:,} parameters" in out
        assert (experiments.directory(experiment, clone) / experiments.CONFIG).is_file()
    assert not (_task(clone) / "calls").exists()


def test_results_that_lack_entries_are_named_and_the_others_shown(clone, capsys, in_this_process):
    comparison.run(FIRST, clone)
    folder = _task(clone) / "results"
    (own,) = folder.glob("*.json")
    found = json.loads(own.read_text())
    (folder / "lora--good.json").write_text(json.dumps(found | {"run_info": None}))
    (folder / "lora--empty.json").write_text("{}")
    (folder / "lora--list.json").write_text("[]")
    training = found["train_info"]
    for name, changes in (("metrics", {"metrics": []}), ("time", {"train_time": None})):
        (folder / f"lora--{name}.json").write_text(json.dumps({"train_info": training | changes}))
    assert comparison.main([str(clone), "--experiment", FIRST.name]) == 0
    out, err = capsys.readouterr()
    assert "lora/good" in out
    assert f"structmat/{FIRST.name}" in out
    for name in ("empty", "list", "metrics"):
        assert f'lora/{name} is not shown: it lacks train_info.metrics[-1]["test accuracy"]' in err
    assert "lora/time is not shown: it lacks train_info.train_time" in err
    for changed in ({}, {"run_info": {}}, found | {"run_info": None}):
        own.write_text(json.dumps(changed))
        assert comparison.result(FIRST, clone) is None


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        ("fails", "program failed"),
        ("cancels", "cancelled: out of memory"),
        ("writes nothing", "wrote no result"),
    ],
)
def test_failures_are_reported_and_not_reused(clone, behaviour, why, capfd, in_this_process):
    (_task(clone) / "behaviour").write_text(behaviour)
    with pytest.raises(StructmatError, match=why):
        comparison.run(FIRST, clone)
    assert comparison.main([str(clone), "--experiment", FIRST.name]) == 1
    assert why in capfd.readouterr().err
    assert comparison.result(FIRST, clone) is None
    (_task(clone) / "behaviour").write_text("works")
    assert comparison.run(FIRST, clone)["train_info"]["train_time"] == 12.5


def test_bad_input_raises_an_error_of_one_line(tmp_path, clone, capsys):
    with pytest.raises(FileError, match=r"has no run\.py"):
        experiments.written(FIRST, tmp_path)
    assert comparison.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert comparison.main([str(clone), "--experiment", "llama-3.2-3B-defalt"]) == 2
    assert "did you mean llama-3.2-3B-default" in capsys.readouterr().err


def test_a_clone_that_cannot_be_written_to_is_reported_in_one_line(clone, capsys):
    blocked = experiments.directory(EXPERIMENTS[0], clone).parents[0]
    shutil.rmtree(blocked, ignore_errors=True)
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("a file in the place of the directory")
    assert comparison.main([str(clone), "--write", "--experiment", EXPERIMENTS[0].name]) == 2
    assert "cannot create the directory" in capsys.readouterr().err


@pytest.mark.skipif(
    "STRUCTMAT_PEFT_CLONE" not in os.environ,
    reason="STRUCTMAT_PEFT_CLONE does not name a clone of PEFT's repository",
)
def test_rehearsal_with_the_program_of_peft(tmp_path):
    clone = tmp_path / "peft"
    shutil.copytree(
        os.environ["STRUCTMAT_PEFT_CLONE"], clone, ignore=shutil.ignore_patterns("docs")
    )
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "structmat.bench.method_comparison",
            str(clone),
            "--experiment",
            FIRST.name,
            "--import",
            "tests.bench.peft_rehearsal",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"structmat/{FIRST.name}" in done.stdout
