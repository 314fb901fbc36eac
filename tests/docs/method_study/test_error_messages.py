"""The task of error messages: the messages found in sources; labels do not leak."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docs.method_study import error_messages as e
from structmat.finetune.near_duplicates import normalised

LONG = "the given argument of this function"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (f'raise ValueError("{LONG}")', LONG),
        (f"raise ValueError(\n    '{LONG} '\n    f'is {{x}} of {{y!r}}')", f"{LONG} is … of …"),
        (f'raise ValueError("{LONG} is %s, not %(name)s" % x)', f"{LONG} is …, not …"),
        (f'raise ValueError("{LONG} is {{0}}".format(x))', f"{LONG} is …"),
        (f'raise ValueError("no TypeError: {LONG}")', f"no error: {LONG}"),
        (f'raise ValueError("{LONG}\\n\\n  is \\u03c0")', f"{LONG} is π"),
    ],
)
def test_values_and_exceptions_in_messages_are_masked(source, text):
    assert list(e.raised(source)) == [("ValueError", text)]


@pytest.mark.parametrize(
    "source",
    [
        f'raise OSError("{LONG}")',
        'raise ValueError("too short")',
        "raise ValueError(message)",
        "raise ValueError",
    ],
)
def test_other_exceptions_and_short_messages_are_left_out(source):
    assert list(e.raised(source)) == []


@given(
    counts=st.lists(st.tuples(*[st.integers(0, 5)] * len(e.LABELS)), min_size=1, max_size=4),
)
def test_the_package_does_not_help_to_predict_the_label(counts):
    def word(*numbers):
        return "".join(chr(ord("a") + number) for number in numbers)

    found = {
        f"package {p}": [
            (label, f"message {word(p, k)} {word(k, row)} {word(p, row)} {word(p, k, row)}")
            for k, label in enumerate(e.LABELS)
            for row in range(sizes[k])
        ]
        for p, sizes in enumerate(counts)
    }
    texts = e.matched(found)
    package = {text: name for name, rows in found.items() for _, text in rows}
    shares = [Counter(package[text] for text in group) for group in texts.values()]
    assert all(share == shares[0] for share in shares)
    assert sum(map(len, texts.values())) == sum(len(e.LABELS) * min(sizes) for sizes in counts)


def test_messages_of_an_installed_package_are_distinct_and_masked():
    found = e.matched({"networkx": list(e.messages("networkx"))})
    texts = [text for group in found.values() for text in group]
    assert len(texts) >= 4
    assert len(set(map(normalised, texts))) == len(texts)
    assert not [text for text in texts if any(label in text for label in e.LABELS)]
