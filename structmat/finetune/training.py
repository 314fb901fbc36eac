"""Training of a model with transformers' Trainer, which also supports accelerate and torchrun."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from structmat.bench.machine import device
from structmat.errors import StructmatError, require
from structmat.finetune.hyperparameters import Hyperparameters
from structmat.finetune.models import processes, quiet
from structmat.finetune.task import Example

_POOL = 8  # number of batches whose texts are sorted by length together


class DivergedError(StructmatError):
    """Raised when the loss of a training run is no longer finite."""


class History(NamedTuple):
    """The training history, as (step, value) pairs."""

    loss: tuple[tuple[int, float], ...]
    accuracy: tuple[tuple[int, float], ...]


class Trained(NamedTuple):
    """A trained model, its history, its validation accuracy, its answers and its training time.

    `predictions` contains the predicted label of each test text, in the given order.
    """

    model: Any
    history: History
    validation: float
    predictions: tuple[int, ...]
    seconds: float


def tokenized(tokenizer: Any, texts: Sequence[Example], *, max_length: int) -> list[dict[str, Any]]:
    """Return the tokenized texts as rows in the Trainer's format."""
    encoded = tokenizer([e.text for e in texts], truncation=True, max_length=max_length)
    return [
        {key: values[row] for key, values in encoded.items()} | {"labels": example.label}
        for row, example in enumerate(texts)
    ]


def batched_by_length(
    lengths: Sequence[int], *, batch: int, epochs: int, seed: int
) -> npt.NDArray[np.int64]:
    """Return an order of the texts in which batches contain texts of similar length.

    Every epoch is shuffled; then pools of a few batches are sorted by length, which nearly halves
    the padding, and the batches are shuffled. The texts of an incomplete last batch, which differ
    between epochs, are skipped.

    Returns
    -------
    (epochs · ⌊n/batch⌋ · batch,) integers

    Examples
    --------
    >>> batched_by_length([3, 1, 2, 9, 8, 7], batch=3, epochs=1, seed=0).shape
    (6,)
    """
    sizes = np.asarray(lengths)
    batch = min(batch, len(sizes))
    rng = np.random.default_rng(seed)
    epochs_in_order = []
    for _ in range(epochs):
        order = rng.permutation(len(sizes))[: len(sizes) // batch * batch]
        pools = [order[i : i + _POOL * batch] for i in range(0, len(order), _POOL * batch)]
        pools = [pool[np.argsort(sizes[pool], kind="stable")] for pool in pools]
        epochs_in_order.append(rng.permutation(np.concatenate(pools).reshape(-1, batch)).ravel())
    return np.concatenate(epochs_in_order)


def train(
    model: Any,
    tokenizer: Any,
    *,
    training: Sequence[Example],
    validation: Sequence[Example],
    test: Sequence[Example] = (),
    hyperparameters: Hyperparameters,
    rate: float,
    seed: int,
    on_step: Callable[[], object] = lambda: None,
) -> Trained:
    """Train the trainable parameters of a model, and evaluate the model.

    Raises
    ------
    DivergedError
        If the loss is no longer finite.
    """
    transformers = require("transformers", "finetune")
    rows = tokenized(tokenizer, training, max_length=hyperparameters.max_length)
    order = batched_by_length(
        [len(row["input_ids"]) for row in rows],
        batch=hyperparameters.batch,
        epochs=hyperparameters.epochs,
        seed=seed,
    )
    steps = hyperparameters.steps(len(rows), processes=processes())
    with tempfile.TemporaryDirectory() as scratch, quiet():
        arguments = transformers.TrainingArguments(
            output_dir=scratch,
            num_train_epochs=1,  # `order` contains all epochs
            train_sampling_strategy="sequential",
            per_device_train_batch_size=min(hyperparameters.batch, len(rows)),
            per_device_eval_batch_size=64,
            learning_rate=rate,
            lr_scheduler_type="linear",
            warmup_steps=max(1, steps // 10),
            weight_decay=0.0,
            logging_nan_inf_filter=False,
            logging_steps=max(1, steps // 30),
            eval_strategy="steps",
            eval_steps=math.ceil(steps / hyperparameters.evaluations),
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=device() == "cuda",
            ddp_find_unused_parameters=False,
            use_cpu=device() == "cpu",  # required for several processes on CPUs to cooperate
            seed=seed,
        )
        trainer = transformers.Trainer(
            model=model,
            args=arguments,
            train_dataset=[rows[index] for index in order],
            eval_dataset=[row for _, row in _by_length(tokenizer, validation, hyperparameters)],
            data_collator=transformers.DataCollatorWithPadding(tokenizer),
            compute_metrics=_accuracy,
            callbacks=[_watcher(on_step)],
        )
        trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
        log = trainer.state.log_history
        loss = tuple((row["step"], row["loss"]) for row in log if "loss" in row)
        curve = tuple((row["step"], row["eval_accuracy"]) for row in log if "eval_accuracy" in row)
        if not curve or curve[-1][0] != trainer.state.global_step:
            last = trainer.evaluate()["eval_accuracy"]
            curve = (*curve, (trainer.state.global_step, last))
        predictions: tuple[int, ...] = ()
        if test:
            tested = _by_length(tokenizer, test, hyperparameters)
            answers = trainer.predict([row for _, row in tested]).predictions.argmax(-1)
            places = np.argsort([place for place, _ in tested])
            predictions = tuple(answers[places].tolist())
    return Trained(trainer.model, History(loss, curve), curve[-1][1], predictions, seconds)


def logits(
    model: Any, tokenizer: Any, texts: Sequence[str], *, max_length: int
) -> npt.NDArray[np.float64]:
    """Return the model's outputs for texts, (texts, labels), in the given order."""
    torch = require("torch", "finetune")
    device = next(model.parameters()).device
    model.eval()
    parts = []
    with torch.no_grad():
        for start in range(0, len(texts), 64):
            encoded = tokenizer(
                list(texts[start : start + 64]),
                truncation=True,
                max_length=max_length,
                padding=True,
                return_tensors="pt",
            )
            parts.append(model(**encoded.to(device)).logits.double().cpu().numpy())
    found: npt.NDArray[np.float64] = np.concatenate(parts)
    return found


def _by_length(
    tokenizer: Any, texts: Sequence[Example], hyperparameters: Hyperparameters
) -> list[tuple[int, dict[str, Any]]]:
    """Return the tokenized texts, shortest first, each with its position."""
    rows = tokenized(tokenizer, texts, max_length=hyperparameters.max_length)
    return sorted(enumerate(rows), key=lambda row: len(row[1]["input_ids"]))


def _accuracy(prediction: Any) -> dict[str, float]:
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


def _watcher(on_step: Callable[[], object]) -> Any:
    callback: Any = require("transformers", "finetune").TrainerCallback

    class Watcher(callback):  # type: ignore[misc]  # transformers is imported only where needed
        def on_step_end(self, *_: Any, **__: Any) -> None:
            on_step()

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            if not math.isfinite(logs.get("loss", 0.0)):
                raise DivergedError(
                    f"the loss became {logs['loss']}: the learning rate is too high for this"
                    " model; give a smaller --rate, or let --tune find one"
                )

    return Watcher()
