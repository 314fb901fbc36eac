"""Experiments for PEFT's own comparison of methods: settings of adapters and of training.

PEFT's repository compares methods in `method_comparison/`: on a language task (`MetaMathQA`:
Llama-3.2-3B) and on an image task (`image-gen`: FLUX.2-klein-base-4B). An experiment is a directory
`experiments/METHOD/NAME` with a file `adapter_config.json` and, if the training settings differ
from the default ones, a file `training_params.json`. The sizes here are chosen so that the numbers
of parameters are close to those of experiments in that repository.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from structmat._util.files import make_directory, write_bytes
from structmat.errors import FileError
from structmat.families.resolution import network
from structmat.peft import StructmatConfig

METHOD = "structmat"
CONFIG, TRAINING = "adapter_config.json", "training_params.json"


@dataclass(frozen=True)
class Task:
    """A task of PEFT's comparison.

    Attributes
    ----------
    directory : str
        Its directory below `method_comparison`.
    layers : dict from layer name to dict from width to number
        How many layers of each number of inputs the model has under each name.
    measure : str
        The key of the main result, which is better if larger.
    kept : str
        The key of the second result: the change on unrelated inputs, which is better if smaller.
    examples : int, optional
        The number of test examples, for the standard error of an accuracy.
    """

    directory: str
    layers: Mapping[str, Mapping[int, int]]
    measure: str
    kept: str
    examples: int | None = None


_LLAMA = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj")
_FLUX = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")

TASKS: Mapping[str, Task] = {
    "text": Task(
        "MetaMathQA",
        {**{name: {3072: 28} for name in _LLAMA}, "down_proj": {8192: 28}},
        "test accuracy",
        "forgetting",
        examples=1319,
    ),
    "image": Task(
        "image-gen",
        {
            **{name: {3072: 5} for name in _FLUX},
            "linear_in": {3072: 10},
            "linear_out": {9216: 10},
            "to_qkv_mlp_proj": {3072: 20},
        },
        "test dino_similarity",
        "drift",
    ),
}

_ATTENTION = ("q_proj", "v_proj")  # PEFT's default for Llama
_EVERY = tuple(TASKS["text"].layers)
_IMAGE = tuple(TASKS["image"].layers)


@dataclass(frozen=True)
class Experiment:
    """An experiment, that is, one adapter on one task.

    Attributes
    ----------
    task : {"text", "image"}
    name : str
        The name of its directory.
    topology : str
        The spec of the networks.
    targets : tuple of str
        The names of the adapted layers.
    beside : str
        The experiment of PEFT with about as many parameters.
    training : dict
        The training settings that differ from the task's default ones.

    Examples
    --------
    >>> EXPERIMENTS[0].parameters
    3526656
    """

    task: str
    name: str
    topology: str
    targets: tuple[str, ...]
    beside: str
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        """The number of trainable parameters."""
        layers = TASKS[self.task].layers
        return sum(
            number * network(self.topology, width).parameters
            for name in self.targets
            for width, number in layers[name].items()
        )

    def config(self) -> StructmatConfig:
        """Return the configuration of the adapter."""
        return StructmatConfig(topology=self.topology, target_modules=list(self.targets))


EXPERIMENTS: tuple[Experiment, ...] = (
    Experiment(
        "text",
        "llama-3.2-3B-default",
        "mixing_network(block=16)",
        _ATTENTION,
        "oft/llama-3.2-3B-rank32",
    ),
    Experiment(
        "text",
        "llama-3.2-3B-block-diagonal-96",
        "block_diagonal(block=96)",
        _ATTENTION,
        "oft/llama-3.2-3B-rank32",
    ),
    Experiment(
        "text",
        "llama-3.2-3B-butterfly-12",
        "butterfly(block=12)",
        _ATTENTION,
        "oft/llama-3.2-3B-rank32",
    ),
    Experiment(
        "text",
        "llama-3.2-3B-mixed-radix-64",
        "mixed_radix(largest=64)",
        _ATTENTION,
        "lora/llama-3.2-3B-rank32",
    ),
    Experiment(
        "text",
        "llama-3.2-3B-mixed-radix-64-twice",
        "mixed_radix(largest=64) * 2",
        _ATTENTION,
        "lora/llama-3.2-3B-rank64-rslora",
    ),
    Experiment(
        "text",
        "llama-3.2-3B-every-layer",
        "mixing_network(block=8)",
        _EVERY,
        "lora/llama-3.2-3B-rank10-target-mlp",
    ),
    Experiment(
        "image",
        "flux2-klein-default",
        "mixing_network(block=16)",
        _IMAGE,
        "oft/flux2-klein-default",
    ),
    Experiment(
        "image",
        "flux2-klein-mixing-8",
        "mixing_network(block=8)",
        _IMAGE,
        "oft/flux2-klein-default",
    ),
    Experiment(
        "image",
        "flux2-klein-block-diagonal-32",
        "block_diagonal(block=32)",
        _IMAGE,
        "oft/flux2-klein-default",
    ),
    Experiment(
        "image",
        "flux2-klein-mixed-radix-64-twice",
        "mixed_radix(largest=64) * 2",
        _IMAGE,
        "lora/flux2-klein-default",
    ),
)


def directory(experiment: Experiment, repository: Path) -> Path:
    """Return the directory of an experiment in a copy of PEFT's repository.

    Raises
    ------
    FileError
        If the copy does not contain the task.
    """
    task = repository / "method_comparison" / TASKS[experiment.task].directory
    if not (task / "run.py").is_file():
        raise FileError(
            f"{task} has no run.py: give a clone of PEFT's repository, such as the one made by"
            " git clone https://github.com/huggingface/peft"
        )
    return task / "experiments" / METHOD / experiment.name


def written(experiment: Experiment, repository: Path) -> Path:
    """Write the files of an experiment into a copy of PEFT's repository, and return its directory.

    Files with the same content are left untouched, since PEFT's Makefile repeats experiments whose
    files are newer than their results.

    Raises
    ------
    FileError
        If the copy does not contain the task, or cannot be written to.
    """
    folder = directory(experiment, repository)
    make_directory(folder)
    contents = {CONFIG: experiment.config().to_dict()}
    if experiment.training:
        contents[TRAINING] = dict(experiment.training)
    for name, content in contents.items():
        data = (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()
        path = folder / name
        if not path.is_file() or path.read_bytes() != data:
            write_bytes(path, data)
    if not experiment.training:
        (folder / TRAINING).unlink(missing_ok=True)
    return folder
