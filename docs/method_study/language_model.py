"""A small causal language model of source code: `python -m docs.method_study.language_model`.

The command pretrains the model on the corpus of `docs.method_study.corpus`, which takes about 10
minutes on one core, saves its state as it goes, and resumes where it was interrupted. The result is
kept in structmat's cache directory, under a key of everything that it depends on.
"""

import argparse
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import torch
import transformers
from torch.nn import functional
from tqdm import tqdm

from docs.method_study.corpus import VOCABULARY, Tokens, folder, tokens, tokens_key, windows
from structmat._util.files import new_directory, read_json, replacing, write_json

LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The size of the model and of its pretraining.

    `rate` is the maximum learning rate of AdamW; it rises for `warmup` steps, then falls to a tenth
    along a cosine. A step learns from `batch` windows of `length` tokens.
    """

    width: int = 128
    hidden: int = 384
    layers: int = 4
    heads: int = 4
    vocabulary: int = VOCABULARY
    length: int = 128
    batch: int = 8
    steps: int = 2400
    rate: float = 3e-3
    warmup: int = 200
    weight_decay: float = 0.1
    seed: int = 0


def new_model(settings: Settings = Settings()) -> transformers.LlamaForCausalLM:
    """Return a model with random weights, determined by the seed of the settings."""
    torch.manual_seed(settings.seed)
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=settings.vocabulary,
            hidden_size=settings.width,
            intermediate_size=settings.hidden,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            num_key_value_heads=settings.heads,
            max_position_embeddings=settings.length,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=0,
        )
    )


def order(rows: int, *, batch: int, steps: int, seed: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the rows of each batch, (steps, batch): shuffled epochs, one after another.

    The order for fewer steps is a prefix of the order for more.

    Examples
    --------
    >>> sorted(order(6, batch=2, steps=3, seed=0).ravel().tolist())
    [0, 1, 2, 3, 4, 5]
    """
    rng = np.random.default_rng(seed)
    epochs = -(-steps * batch // rows)
    return np.concatenate([rng.permutation(rows) for _ in range(epochs)])[: steps * batch].reshape(
        steps, batch
    )


def losses(model: torch.nn.Module, rows: torch.Tensor) -> torch.Tensor:
    """Return the loss of each window, in nats per predicted token, (windows,).

    Parameters
    ----------
    model : Module
    rows : (windows, length) integers
        Each token but the first is predicted from those before it.
    """
    logits = model(input_ids=rows[:, :-1]).logits
    each = functional.cross_entropy(logits.transpose(1, 2), rows[:, 1:], reduction="none")
    return each.mean(1)


@torch.no_grad()
def evaluated(model: torch.nn.Module, rows: torch.Tensor, *, batch: int = 64) -> torch.Tensor:
    """Return the loss of each window in evaluation mode, (windows,), float64."""
    training = model.training
    model.eval()
    found = torch.cat([losses(model, part) for part in rows.split(batch)]).double()
    model.train(training)
    return found


def rows_of(part: str, length: int, *, most: int | None = None) -> torch.Tensor:
    """Return windows of a part of the corpus, evenly spaced if there are more than `most`."""
    return spaced(windows(tokens(part), length), most)


def spaced(rows: Tokens, most: int | None) -> torch.Tensor:
    """Return at most a number of rows, evenly spaced, as int64."""
    if most is not None and len(rows) > most:
        rows = rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]
    return torch.from_numpy(rows.astype(np.int64))


# Pretraining --------------------------------------------------------------------------------


def rate_at(step: int, settings: Settings) -> float:
    """Return the learning rate of a step.

    Examples
    --------
    >>> settings = Settings(steps=100, warmup=10, rate=1.0)
    >>> [round(rate_at(step, settings), 2) for step in (0, 9, 10, 100)]
    [0.1, 1.0, 1.0, 0.1]
    """
    if step < settings.warmup:
        return settings.rate * (step + 1) / settings.warmup
    done = (step - settings.warmup) / (settings.steps - settings.warmup)
    return settings.rate * (0.55 + 0.45 * math.cos(math.pi * done))


def pretrained(settings: Settings = Settings()) -> transformers.LlamaForCausalLM:
    """Return the pretrained model, from the cache or by pretraining it.

    Several processes may call this: one pretrains while the others wait.
    """
    path = checkpoint(settings)
    with filelock.FileLock(f"{path}.lock"):
        if not path.is_dir():
            model, history = pretrain(
                settings,
                torch.from_numpy(windows(tokens("pretraining"), settings.length).astype(np.int64)),
                path.with_suffix(".state.pt"),
                lambda model: {
                    part: float(evaluated(model, rows_of(part, settings.length, most=128)).mean())
                    for part in ("forgetting", "validation")
                },
            )
            with new_directory(path) as new:
                model.save_pretrained(new)
                write_json(new / "history.json", history)
            path.with_suffix(".state.pt").unlink(missing_ok=True)
    return transformers.LlamaForCausalLM.from_pretrained(path)


def pretrain(
    settings: Settings,
    rows: torch.Tensor,
    state: Path,
    measure: Callable[[torch.nn.Module], Mapping[str, float]],
    *,
    every: int = 100,
) -> tuple[transformers.LlamaForCausalLM, list[dict[str, float]]]:
    """Pretrain a model, saving its state after each `every` steps, or resume from a saved state.

    Returns
    -------
    model, history
        Each entry of the history contains the step, the mean training loss since the previous
        entry, and the results of `measure`.
    """
    model = new_model(settings)
    decayed = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    optimiser = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": settings.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ],
        betas=(0.9, 0.95),
    )
    history: list[dict[str, float]] = []
    first = 0
    if state.exists():
        saved = torch.load(state, weights_only=True)
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        history, first = saved["history"], saved["step"]
    batches = order(len(rows), batch=settings.batch, steps=settings.steps, seed=settings.seed)
    model.train()
    recent: list[float] = []
    for step in tqdm(
        range(first, settings.steps), initial=first, total=settings.steps, unit="step", disable=None
    ):
        for group in optimiser.param_groups:
            group["lr"] = rate_at(step, settings)
        loss = losses(model, rows[batches[step]]).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        recent.append(loss.item())
        if (step + 1) % every == 0 or step + 1 == settings.steps:
            mean = sum(recent) / len(recent)
            recent.clear()
            history.append({"step": step + 1, "training": mean, **measure(model)})
            with replacing(state) as new:
                torch.save(
                    {
                        "model": model.state_dict(),
                        "optimiser": optimiser.state_dict(),
                        "history": history,
                        "step": step + 1,
                    },
                    new,
                )
    return model, history


def checkpoint(settings: Settings) -> Path:
    """Return the directory of the pretrained model, named after everything it depends on."""
    versions = (torch.__version__, transformers.__version__)
    text = json.dumps([asdict(settings), tokens_key(), *versions])
    return folder() / f"language-model-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Pretrain the model, unless it is in the cache, and print the losses."""
    parser = argparse.ArgumentParser(description="Pretrain the small language model of the study.")
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args(arguments).threads)
    settings = Settings()
    model = pretrained(settings)
    history = read_json(checkpoint(settings) / "history.json")
    tqdm.write(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    tqdm.write("nats per token after a number of steps: training, held-out files, other package")
    for row in history:
        cells = (row[key] for key in ("training", "forgetting", "validation"))
        tqdm.write(f"{row['step']:6d}" + "".join(f"{cell:10.4f}" for cell in cells))


if __name__ == "__main__":
    main()
