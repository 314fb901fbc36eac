from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from structmat.finetune.report.disagreements import agreement, by_answer, disagreements
from structmat.finetune.task import Example

LABELS = ("x", "y", "z")


@st.composite
def studies(draw):
    """Test texts, and the answers of two to four methods with one or three seeds."""
    texts = draw(st.integers(1, 12))
    labels = st.lists(st.integers(0, 2), min_size=texts, max_size=texts)
    test = [Example(f"text {k}", label) for k, label in enumerate(draw(labels))]
    seeds = draw(st.sampled_from([1, 3]))
    answer = st.lists(labels, min_size=seeds, max_size=seeds)
    answers = {name: draw(answer) for name in "abcd"[: draw(st.integers(2, 4))]}
    return test, answers


def majority(seeds, place):
    given = [seed[place] for seed in seeds]
    return max(given, key=lambda label: (given.count(label), -given.index(label)))


@given(studies())
def test_the_counts_agree_with_the_votes_of_every_text(study):
    test, answers = study
    kinds = Counter()
    for place, example in enumerate(test):
        votes = {majority(seeds, place) for seeds in answers.values()}
        kinds["disagree" if len(votes) > 1 else "right" if example.label in votes else "wrong"] += 1
    assert agreement(test, answers) == {k: kinds[k] for k in ("right", "wrong", "disagree")}


@given(studies(), st.integers(1, 5))
def test_every_example_is_a_disagreement_with_every_answer(study, shown):
    test, answers = study
    found = disagreements(test, LABELS, answers, range(len(test)), shown=shown)
    assert len(found) == min(shown, agreement(test, answers)["disagree"])
    places = {example.text: place for place, example in enumerate(test)}
    assert len({each["text"] for each in found}) == len(found)
    for each in found:
        place = places[each["text"]]
        assert each["label"] == LABELS[test[place].label]
        expected = {name: LABELS[majority(seeds, place)] for name, seeds in answers.items()}
        assert each["answers"] == expected
        parts = by_answer(each)
        assert len(parts) > 1
        assert {name: answer for answer, _, names in parts for name in names} == expected
        assert [right for _, right, _ in parts].count(True) == (each["label"] in expected.values())


def test_examples_are_divided_evenly_among_labels_and_groups():
    test = [Example(f"text {k}", 0 if k < 8 else 1) for k in range(10)]
    answers = {"a": [[e.label for e in test]], "b": [[1 - e.label for e in test]]}
    found = disagreements(test, ("x", "y"), answers, range(10), shown=4)
    assert Counter(each["label"] for each in found) == {"x": 2, "y": 2}
    together = disagreements(test, ("x", "y"), answers, [0] * 8 + [8, 9])
    assert [each["text"] for each in together] == ["text 0", "text 8", "text 9"]
