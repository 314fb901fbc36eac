"""Silence for other libraries, whose warnings and log messages users cannot act on."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from structmat._util.text_location import is_of_user

# Environment variables that the libraries read on import; values set by the user are kept.
_SETTINGS = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",  # otherwise a fork causes a warning
    "TRANSFORMERS_VERBOSITY": "error",
}


@contextmanager
def quiet(say: Callable[[str], object]) -> Iterator[None]:
    """Suppress warnings and log messages of other libraries.

    Warnings from structmat and from the user's files are printed on one line each. Log messages at
    the level of errors are kept, and so are all warnings if the user sets Python's option `-W` or
    PYTHONWARNINGS.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))

    def shown(message: Warning | str, category: type[Warning], filename: str, *_: Any) -> None:
        if category.__module__.startswith("structmat") or is_of_user(filename):
            say(f"warning: {' '.join(str(message).split())}")

    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:
                warnings.simplefilter("default")
                warnings.showwarning = shown  # type: ignore[assignment]
            yield
    finally:
        logging.disable(before)
