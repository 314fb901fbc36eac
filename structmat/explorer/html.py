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
from structmat.explorer.answers import records
from structmat.explorer.families_offered import offered
from structmat.explorer.queries import DRAWN, WIDEST
from structmat.viz import COLOURS

_SELF, _NONE = "'self'", "'none'"
FIRST: Mapping[str, Any] = {"spec": "butterfly(block=4)", "width": 16}


def page(
    first: Mapping[str, Any] | None = None,
    saved: Sequence[Mapping[str, Any]] | None = None,
    load: Sequence[str] = (),
) -> str:
    """Return the page as HTML.

    A content security policy permits only the page's own scripts and styles, by their hashes: a
    saved page cannot fetch anything, and a served one can connect only to its own server.

    Parameters
    ----------
    first : mapping, optional
        The question of the network shown first.
    saved : sequence of mappings, optional
        Precomputed answers, with which the page needs no server.
    load : sequence of str
        Files and modules with user-defined families, which commands on the page must load.

    Examples
    --------
    >>> html = page()
    >>> html.startswith("<!doctype html>"), "http://" in html.replace("http://www.w3.org", "")
    (True, False)
    """
    if first is None:
        first = FIRST if saved is None else _first_of(saved)
    data = {
        "version": structmat.__version__,
        "widest": WIDEST,
        "drawn": DRAWN,
        "colours": COLOURS,
        "families": offered(),
        "first": dict(first),
        "load": "".join(f" --load {shlex.quote(source)}" for source in load),
        "saved": None if saved is None else list(saved),
        "atlas": {
            width: records({"width": width}) for width in {one["width"] for one in saved or ()}
        },
    }
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
    return FIRST if FIRST in questions else questions[0]


def _part(name: str) -> str:
    return (files(__package__) / "page" / name).read_text("utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
