import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from structmat.errors import StructmatError
from structmat.finetune.hyperparameters import Hyperparameters
from structmat.finetune.training import batched_by_length

lengths = st.lists(st.integers(1, 64), min_size=1, max_size=200)


@given(lengths, st.integers(1, 40), st.integers(1, 3), st.integers(0, 9))
def test_every_epoch_visits_each_text_once_up_to_a_partial_batch(lengths, batch, epochs, seed):
    order = batched_by_length(lengths, batch=batch, epochs=epochs, seed=seed)
    size = min(batch, len(lengths))
    assert len(order) == Hyperparameters(batch=batch, epochs=epochs).steps(len(lengths)) * size
    for epoch in np.split(order, epochs):
        assert len(set(epoch)) == len(epoch) > len(lengths) - size
        assert set(epoch) <= set(range(len(lengths)))


@given(lengths, st.integers(1, 40), st.integers(0, 9))
def test_the_order_is_a_function_of_the_seed(lengths, batch, seed):
    orders = [batched_by_length(lengths, batch=batch, epochs=2, seed=seed) for _ in range(2)]
    assert np.array_equal(*orders)


def test_batches_by_length_need_less_padding_than_random_ones():
    rng = np.random.default_rng(0)
    sizes = rng.integers(5, 64, 640)

    def padded(order):
        return (sizes[order].reshape(-1, 32).max(axis=1) * 32).sum()

    order = batched_by_length(sizes, batch=32, epochs=1, seed=0)
    assert padded(order) < 0.75 * padded(rng.permutation(640))


@pytest.mark.parametrize("name", ["epochs", "batch", "max_length", "evaluations"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_hyperparameters_must_be_positive_integers(name, value):
    with pytest.raises(StructmatError, match=f"{name}=.*must be an integer ≥ 1"):
        Hyperparameters(**{name: value})
