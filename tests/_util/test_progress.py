"""Progress bars are seen in terminals, and leave nothing in files and pipes."""

import os
import re
import subprocess
import sys

import pytest

from structmat._util import progress
from tests.terminals import in_terminal

WORK = """
import sys
from structmat._util import progress
progress._DELAY = progress._PAUSE = 0
with progress.bar("fit", 1234, unit="sweep", shown=True, done=34) as steps:
    for note in ("one", "two"):
        steps.describe(note)
        steps.update(600)
        print("a line about", note, file=sys.stderr)
print("a result")
"""


@pytest.mark.parametrize("columns", [30, 120])
def test_a_terminal_shows_the_steps_and_then_only_what_was_printed(columns):
    code, text = in_terminal(sys.executable, "-c", WORK, columns=columns, NO_COLOR="1")
    assert code == 0
    assert "634/1,234 sweep" in text
    drawn = re.findall(r"fit.*?(?=[\r\n])", text)
    assert drawn
    assert all("sweep" in bar and len(bar) <= columns for bar in drawn)
    assert text.startswith("\x1b[?25l")  # hides the cursor, and shows it again
    assert text.endswith("\x1b[?25h\r\x1b[1A\x1b[2Ka result\n")
    lines = [line.rpartition("\x1b[2K")[2] for line in text.splitlines()]
    assert [line for line in lines if line.startswith("a ")] == [
        "a line about one",
        "a line about two",
        "a result",
    ]


def test_a_terminal_that_cannot_move_its_cursor_shows_no_bar():
    code, text = in_terminal(sys.executable, "-c", WORK, TERM="dumb")
    assert (code, text) == (0, "a line about one\na line about two\na result\n")


@pytest.mark.parametrize("colour", [{}, {"FORCE_COLOR": "1"}])
def test_pipes_get_no_bar(colour):
    done = subprocess.run(
        [sys.executable, "-c", WORK], capture_output=True, text=True, env=os.environ | colour
    )
    assert done.stdout == "a result\n"
    assert done.stderr == "a line about one\na line about two\n"


def test_steps_are_counted_without_a_bar():
    with progress.bar("fit", 10, unit="sweep", shown=True, done=2) as steps:
        steps.update()
        steps.update(4)
    assert steps.n == 7
    assert steps._display is None
