"""The page as a single string: markup, style, scripts and data, without external resources."""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import structmat
from structmat.explorer.families_offered import COMPOSITIONS, offered
from structmat.explorer.queries import DRAWN, FIRST, WIDEST
from structmat.explorer.saved_networks import Saved
from structmat.viz import COLOURS

_SELF, _NONE = "'self'", "'none'"


def page_data(first: Mapping[str, Any] | None = None, load: Sequence[str] = ()) -> dict[str, Any]:
    """Return the data that the page needs before its first question, without saved answers.

    Parameters
    ----------
    first, load
        As for `page`.

    Examples
    --------
    >>> page_data()["first"]
    {'spec': 'butterfly(block=4)', 'width': 16}
    """
    return {
        "version": structmat.__version__,
        "widest": WIDEST,
        "drawn": DRAWN,
        "colours": list(COLOURS),
        "families": offered(),
        "compositions": [{"spec": spec, "width": width} for spec, width in COMPOSITIONS.items()],
        "first": dict(FIRST if first is None else first),
        "load": "".join(f" --load {shlex.quote(source)}" for source in load),
        "saved": None,
    }


def page(
    first: Mapping[str, Any] | None = None,
    saved: Saved | None = None,
    load: Sequence[str] = (),
) -> str:
    """Return the page as HTML.

    A content security policy permits only the page's own scripts and styles, by their hashes: a
    saved page cannot fetch anything, and a served one can connect only to its own server.

    Parameters
    ----------
    first : mapping, optional
        The question about the network shown first.
    saved : Saved, optional
        Precomputed answers, with which the page needs no server.
    load : sequence of str
        Files and modules with user-defined families, which commands on the page must load.

    Examples
    --------
    >>> html = page()
    >>> html.startswith("<!doctype html>"), "http://" in html.replace("http://www.w3.org", "")
    (True, False)
    """
    if first is None and saved is not None:
        first = _first_of(saved.networks)
    data = page_data(first, load)
    if saved is not None:
        data |= {"saved": saved.networks, "atlas": saved.atlas, "survey": saved.survey}
    style, script = _part("explorer.css"), _part("explorer.js")
    allowed = [
        f"default-src {_NONE}",
        f"script-src {_hash(script)}",
        f"style-src {_hash(style)}",
        "img-src data:",
        f"connect-src {_SELF if saved is None else _NONE}",
        f"base-uri {_NONE}",
        f"form-action {_NONE}",
    ]
    parts = {
        "POLICY": "; ".join(allowed),
        "STYLE": style,
        "DATA": json.dumps(data, ensure_ascii=False).replace("<", "\\u003c"),
        "SCRIPT": script,
    }
    before, *rest = _part("index.html").split("{{")
    pieces = [before]
    for piece in rest:
        name, _, after = piece.partition("}}")
        pieces += [parts[name], after]
    return "".join(pieces)


def _first_of(saved: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the question about the default network or, if it is missing, the first saved one."""
    questions = [{"spec": one["spec"], "width": one["width"]} for one in saved]
    return dict(FIRST) if FIRST in questions else questions[0]


def _part(name: str) -> str:
    return (files(__package__) / "page" / name).read_text("utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
