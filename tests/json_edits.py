"""Edits of JSON values, as by a person, another program or a defective disk."""

import copy

from hypothesis import strategies as st

# Invalid in most places; where one is valid, such as None, it should not change the meaning.
JUNK = [None, -1, -0.5, 10**40, "junk", "", [], {}, [[]], [None], {"junk": 1}, [{}], [[1, 2]]]


def places(value, inside=()):
    """Yield the path of each value in a JSON value, from the outermost inwards."""
    yield inside
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for key, part in items:
        yield from places(part, (*inside, key))


def edited(value, place, action, junk):
    """Return a value in which one place is removed, replaced by junk, or extended by junk."""
    made = copy.deepcopy(value)
    if not place:
        return junk
    *heads, last = place
    owner = made
    for head in heads:
        owner = owner[head]
    if action == "remove":
        del owner[last]
    elif action == "extend" and isinstance(owner[last], dict):
        owner[last]["unknown"] = junk
    elif action == "extend" and isinstance(owner[last], list):
        owner[last].append(junk)
    else:
        owner[last] = copy.deepcopy(junk)
    return made


def edits(value):
    """Return a strategy of values that differ from a JSON value in one place."""
    return st.builds(
        edited,
        st.just(value),
        st.sampled_from(list(places(value))),
        st.sampled_from(["remove", "replace", "extend"]),
        st.sampled_from(JUNK),
    )
