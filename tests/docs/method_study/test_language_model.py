"""The small language model: its loss, its batches, and pretraining that resumes."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("transformers")

from docs.method_study import language_model as lm

TINY = lm.Settings(
    width=16, hidden=24, layers=1, heads=2, vocabulary=32, length=12, batch=2, steps=9, warmup=2
)


@pytest.fixture(scope="module")
def rows():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 32, (20, 12)))


def test_the_loss_is_the_mean_surprisal_of_the_next_token(rows):
    model = lm.new_model(TINY).eval()
    with torch.no_grad():
        logits = model(input_ids=rows[:3]).logits.double().softmax(-1)
    expected = [
        np.mean([-math.log(logits[i, j, rows[i, j + 1]]) for j in range(11)]) for i in range(3)
    ]
    assert lm.evaluated(model, rows[:3], batch=2).numpy() == pytest.approx(expected, rel=1e-5)


def test_the_loss_agrees_with_transformers(rows):
    model = lm.new_model(TINY).eval()
    theirs = model(input_ids=rows, labels=rows).loss
    assert float(lm.evaluated(model, rows).mean()) == pytest.approx(
        float(theirs.detach()), rel=1e-5
    )


@given(
    rows=st.integers(1, 9), batch=st.integers(1, 5), steps=st.integers(1, 9), more=st.integers(0, 9)
)
def test_orders_are_whole_epochs_and_extend_one_another(rows, batch, steps, more):
    short = lm.order(rows, batch=batch, steps=steps, seed=3)
    long = lm.order(rows, batch=batch, steps=steps + more, seed=3)
    assert (long[:steps] == short).all()
    flat = short.ravel()
    for first in range(0, len(flat) - rows + 1, rows):
        assert sorted(flat[first : first + rows]) == list(range(rows))


def test_the_rate_rises_to_its_maximum_and_falls_to_a_tenth():
    rates = [lm.rate_at(step, lm.Settings()) for step in range(lm.Settings().steps + 1)]
    top = rates.index(max(rates))
    assert max(rates) == lm.Settings().rate
    assert (np.diff(rates[: top + 1]) > 0).all()
    assert (np.diff(rates[top + 1 :]) < 0).all()
    assert rates[-1] == pytest.approx(lm.Settings().rate / 10)


def test_interrupted_pretraining_yields_the_same_weights(rows, tmp_path):
    def pretrain(name, measure=lambda _: {}):
        return lm.pretrain(TINY, rows, tmp_path / name, measure, every=3)

    whole, history = pretrain("whole.pt")
    assert [row["step"] for row in history] == [3, 6, 9]

    def interrupt(_):
        if (tmp_path / "part.pt").exists():
            raise KeyboardInterrupt("stopped")
        return {}

    with pytest.raises(KeyboardInterrupt, match="stopped"):
        pretrain("part.pt", interrupt)
    resumed, again = pretrain("part.pt")
    assert again == history
    for one, two in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, two)


def test_the_checkpoint_is_named_after_the_settings_and_the_tokens(monkeypatch, tmp_path):
    monkeypatch.setenv("STRUCTMAT_CACHE", str(tmp_path))
    monkeypatch.setattr(lm, "tokens_key", lambda: "tokens")
    names = {lm.checkpoint(TINY), lm.checkpoint(replace(TINY, seed=1))}
    monkeypatch.setattr(lm, "tokens_key", lambda: "others")
    names.add(lm.checkpoint(TINY))
    assert len(names) == 3
    assert lm.checkpoint(TINY) in names


def test_pretraining_learns_repeated_windows(tmp_path):
    settings = replace(TINY, steps=100, warmup=5, rate=1e-2)
    rows = torch.arange(12).repeat(4, 1)
    model, _ = lm.pretrain(settings, rows, tmp_path / "state.pt", lambda _: {}, every=100)
    assert float(lm.evaluated(model, rows).mean()) < 0.3  # log(32) = 3.5 at first
