import re
from collections import Counter
from itertools import combinations

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from structmat.errors import FileError
from structmat.finetune.task import Task, balanced, distinct, normalised, stratified

words = st.sampled_from(["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
texts = st.lists(words, min_size=0, max_size=8).map(" ".join)
corpora = st.dictionaries(st.sampled_from("abc"), st.lists(texts, max_size=12), max_size=3)


def jaccard(left, right):
    a, b = (set(re.findall("[a-z]+", text)) or {text} for text in (left, right))
    return len(a & b) / len(a | b)


def by_all_pairs(corpus, near):
    """The reference: compare all pairs, keep the first of each component with one label."""
    flat = [(label, text) for label, group in corpus.items() for text in group]
    graph = nx.empty_graph(len(flat))
    graph.add_edges_from(
        (i, j)
        for i, j in combinations(range(len(flat)), 2)
        if jaccard(flat[i][1], flat[j][1]) >= near - 1e-12
    )
    kept = {label: [] for label in corpus}
    for component in sorted(nx.connected_components(graph), key=min):
        if len({flat[i][0] for i in component}) == 1:
            label, text = flat[min(component)]
            kept[label].append(text)
    return kept


@given(corpora, st.sampled_from([0.3, 0.5, 0.7, 0.8, 1.0]))
def test_distinct_agrees_with_comparing_all_pairs(corpus, near):
    assert distinct(corpus, near=near) == by_all_pairs(corpus, near)


def test_equal_texts_without_words_count_once():
    assert distinct({"a": ["12 34", "12 34", "5"], "b": ["6"]}) == {"a": ["12 34", "5"], "b": ["6"]}


def numbered(counts):
    return {label: [f"{label} text {'x' * i}" for i in range(n)] for label, n in counts.items()}


@given(
    st.dictionaries(st.sampled_from("abcd"), st.integers(9, 20), min_size=2),
    st.integers(0, 5),
    st.tuples(st.integers(1, 4), st.integers(1, 2), st.integers(1, 3)),
)
def test_balanced_parts_are_disjoint_and_balanced(counts, seed, sizes):
    train, validation, test = sizes
    corpus = numbered(counts)
    task = balanced("t", corpus, train=train, validation=validation, test=test, seed=seed)
    parts = (task.train, task.validation, task.test)
    everything = [example.text for part in parts for example in part]
    assert len(set(everything)) == len(everything)
    for part, size in zip(parts, sizes, strict=True):
        assert Counter(e.label for e in part) == dict.fromkeys(range(len(corpus)), size)
        assert all(example.text in corpus[task.labels[example.label]] for example in part)


@given(st.permutations(range(20)), st.integers(0, 5))
def test_the_split_depends_only_on_the_texts_and_the_seed(order, seed):
    corpus = numbered({"a": 20, "b": 20})
    shuffled = {label: [group[i] for i in order] for label, group in corpus.items()}
    options = {"train": 8, "validation": 4, "test": 4, "seed": seed}
    assert balanced("t", corpus, **options) == balanced("t", shuffled, **options)
    again = balanced("t", corpus, **options | {"seed": seed + 1})
    assert again.fingerprint != balanced("t", corpus, **options).fingerprint


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(3, 60), min_size=2))
def test_stratified_uses_every_text_once_and_every_class_in_every_part(counts):
    corpus = numbered(counts)
    task = stratified("t", corpus)
    parts = (task.train, task.validation, task.test)
    assert sorted(e.text for part in parts for e in part) == sorted(
        text for group in corpus.values() for text in group
    )
    for part in parts:
        assert {example.label for example in part} == set(range(len(corpus)))


def test_a_class_with_too_few_texts_is_named():
    with pytest.raises(FileError, match="b has 5 distinct texts; each class needs 6"):
        balanced("t", numbered({"a": 9, "b": 5}), train=3, validation=1, test=2)


@given(st.integers(3, 30), st.integers(3, 9))
def test_a_prefix_of_a_balanced_task_is_balanced(train, rest):
    task = balanced("t", numbered({"a": 20, "b": 20, "c": 20}), train=10, validation=4, test=4)
    cut = task.first(train=train, validation=rest, test=rest)
    assert Counter(e.label for e in cut.train) == dict.fromkeys(range(3), min(10, train // 3))
    assert set(cut.train) <= set(task.train)
    assert cut.sizes["test"] == 3 * min(4, rest // 3)


def test_the_fingerprint_depends_on_the_part_of_a_text():
    base = balanced("t", numbered({"a": 9, "b": 9}), train=3, validation=2, test=2)
    moved = Task("t", base.labels, base.train[1:], (base.train[0], *base.validation), base.test)
    assert base.fingerprint != moved.fingerprint


@given(texts)
def test_normalising_is_idempotent(text):
    assert normalised(normalised(text)) == normalised(text)
