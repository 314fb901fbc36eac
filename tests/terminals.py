"""Programs run in a pseudo-terminal, for the tests of what people see and are asked."""

from __future__ import annotations

import os
import struct
import sys

import pytest


def in_terminal(*arguments, columns=80, answer="", cwd=None, **environment):
    """Run a program in a terminal; return its exit code and everything that it wrote.

    `answer` is typed before the program asks, as a quick user does.
    """
    pytest.importorskip("pty", reason="no pseudo-terminals on this system")
    import fcntl
    import pty
    import termios

    home = os.environ | {"TERM": "xterm-256color"} | environment
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE"):
        if name not in environment:
            home.pop(name, None)
    child, terminal = pty.fork()
    if child == 0:
        try:
            os.chdir(cwd or ".")
            os.execvpe(arguments[0], [str(part) for part in arguments], home)
        finally:
            os._exit(127)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    os.write(terminal, answer.encode())
    written = b""
    while True:
        try:
            part = os.read(terminal, 2**16)
        except OSError:  # Linux reports the end of the program as an error
            break
        if not part:
            break
        written += part
    os.close(terminal)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, written.decode().replace("\r\n", "\n")


def structmat(*arguments, **options):
    """Run a command of structmat in a terminal."""
    return in_terminal(sys.executable, "-m", "structmat", *arguments, **options)
