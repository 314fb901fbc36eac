"""The corpus of the small language model: fixed, split by file, without the held-out package."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tokenizers")

from docs.method_study import corpus as c


@pytest.fixture(scope="module")
def parts():
    return c.corpus()


def test_the_corpus_is_the_same_when_it_is_read_again(parts):
    again = c.corpus.__wrapped__()
    assert [c.fingerprint(part) for part in again.values()] == [
        c.fingerprint(part) for part in parts.values()
    ]


def test_no_file_and_no_text_is_in_two_parts(parts):
    documents = [document for part in parts.values() for document in part]
    assert len({document.path for document in documents}) == len(documents)
    assert len({document.text for document in documents}) == len(documents)


def test_pretraining_does_not_mention_the_held_out_package(parts):
    for name in ("pretraining", "forgetting"):
        assert {document.path.split("/")[0] for document in parts[name]} == set(c.PRETRAINING)
        assert not [document.path for document in parts[name] if c.DOMAIN in document.text]
    for name in ("train", "validation", "test"):
        assert {document.path.split("/")[0] for document in parts[name]} == {c.DOMAIN}


def long_lines(part):
    return {
        line.strip()
        for document in part
        for line in document.text.splitlines()
        if len(line.strip()) >= 60
    }


def test_few_long_lines_of_the_test_files_are_in_other_files(parts):
    """Files of one package share idioms; copies of whole files would share nearly all lines."""
    test = long_lines(parts["test"])
    assert len(test) > 3000
    assert len(test & long_lines(parts["pretraining"])) < 0.01 * len(test)
    assert len(test & long_lines(parts["train"])) < 0.1 * len(test)


def test_every_part_is_large_enough_and_bounded(parts):
    sizes = {name: sum(len(d.text) for d in part) for name, part in parts.items()}
    assert 15e6 < sizes["pretraining"] <= len(c.PRETRAINING) * c._MOST
    assert sizes["train"] > 2e6
    assert min(sizes["test"], sizes["validation"], sizes["forgetting"]) > 2e5


@pytest.fixture(scope="module")
def small():
    texts = ["def f(x):\n    return x + 1\n"] * 3
    return c.trained_tokenizer(texts, vocabulary=280)


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=50))
def test_every_text_is_encoded_without_loss(small, text):
    end = small.token_to_id(c.END)
    found = c.encoded(small, [c.Document("a.py", text)])
    assert found[-1] == end
    assert small.decode(found[:-1].tolist(), skip_special_tokens=False) == text


def test_the_tokenizer_is_determined_by_its_texts(parts):
    few = [document.text for document in parts["pretraining"][:10]]
    one, two = (c.trained_tokenizer(few, vocabulary=400) for _ in range(2))
    assert one.to_str() == two.to_str()
    assert one.get_vocab_size() == 400


@given(size=st.integers(0, 50), length=st.integers(1, 9))
def test_windows_are_consecutive_and_whole(size, length):
    part = np.arange(size, dtype=np.uint16)
    found = c.windows(part, length)
    assert found.shape == (size // length, length)
    assert (found.ravel() == part[: found.size]).all()


def test_without_a_cache_directory_the_error_names_the_variable(monkeypatch):
    monkeypatch.setattr(c, "cache_folder", lambda: None)
    with pytest.raises(c.FileError, match="set STRUCTMAT_CACHE"):
        c.folder()
