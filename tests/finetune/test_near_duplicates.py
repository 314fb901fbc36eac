import re
from itertools import combinations

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

from structmat.finetune.near_duplicates import distinct, first_of_each, near_groups, normalised

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


@given(corpora, st.sampled_from([0.3, 0.5, 0.8, 1.0]))
def test_every_text_is_kept_or_counted_for_one_reason(corpus, near):
    rows = [(text, label) for label, group in corpus.items() for text in group]
    flat, labels = [text for text, _ in rows], [label for _, label in rows]
    groups = near_groups(flat, near=near)
    found = first_of_each(flat, labels, groups)
    assert len(found.kept) + found.equal + found.near + found.contradictory == len(flat)
    sides = {group: {labels[k] for k, g in enumerate(groups) if g == group} for group in groups}
    mixed = {group for group, some in sides.items() if len(some) > 1}
    assert found.contradictory == sum(group in mixed for group in groups)
    rest = [k for k, group in enumerate(groups) if group not in mixed]
    assert found.equal == len(rest) - len({flat[k] for k in rest})


@given(texts)
def test_normalising_is_idempotent(text):
    assert normalised(normalised(text)) == normalised(text)
