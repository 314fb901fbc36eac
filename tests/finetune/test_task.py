from collections import Counter
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from structmat.errors import FileError
from structmat.finetune.near_duplicates import near_groups
from structmat.finetune.task import Example, Task, balanced, stratified


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


@st.composite
def grouped(draw):
    """Texts, labels and groups, with at least three groups of mostly one label for each class."""
    rows, group = [], 0
    for label in "abc"[: draw(st.integers(2, 3))]:
        for _ in range(draw(st.integers(3, 30))):
            size = draw(st.sampled_from([1, 1, 1, 2, 5, 40]))
            rows += [(f"{label} {group} {k}", label, group) for k in range(size)]
            if size > 2:  # one text of the group has another label
                rows[-1] = (rows[-1][0], draw(st.sampled_from("ab")), group)
            group += 1
    return [list(column) for column in zip(*draw(st.permutations(rows)), strict=True)]


@given(grouped(), st.integers(0, 3))
def test_stratified_separates_no_group_and_puts_every_class_into_every_part(rows, seed):
    texts, labels, groups = rows
    task = stratified("t", texts, labels, groups, seed=seed)
    parts = (task.train, task.validation, task.test)
    found = sorted((text, task.labels[label]) for text, label in chain(*parts))
    assert found == sorted(zip(texts, labels, strict=True))
    of = dict(zip(texts, groups, strict=True))
    sets = [{of[example.text] for example in part} for part in parts]
    assert sum(map(len, sets)) == len(set(groups))
    for part in parts:
        assert {example.label for example in part} == set(range(len(task.labels)))


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(10, 60), min_size=2))
def test_stratified_keeps_the_proportions_of_distinct_texts(counts):
    corpus = numbered(counts)
    rows = [(text, label) for label, group in corpus.items() for text in group]
    texts, labels = zip(*rows, strict=True)
    task = stratified("t", texts, labels, range(len(texts)))
    for index, label in enumerate(task.labels):
        n = len(corpus[label])
        sizes = [sum(e.label == index for e in p) for p in (task.train, task.validation, task.test)]
        assert sizes[1:] == [max(1, round(0.1 * n)), max(1, round(0.2 * n))]
        assert sum(sizes) == n


def test_stratified_refuses_a_class_with_fewer_than_three_groups():
    with pytest.raises(FileError, match="b has 2 distinct texts; each class needs 3"):
        stratified("t", list("uvwxyz"), list("aaabbb"), [0, 1, 2, 3, 3, 4])


def test_the_groups_of_test_texts_are_those_of_near_duplicates():
    texts = ["one two", "three", "Two one.", "four"]
    task = Task("t", ("a",), (), (), tuple(Example(text, 0) for text in texts))
    assert task.test_groups == near_groups(texts) == [0, 1, 0, 3]


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
