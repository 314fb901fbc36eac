"""The local server of the page, bound to the loopback interface."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from structmat._util.files import parse_json
from structmat.errors import FileError, StructmatError, checked_integer
from structmat.explorer.html import page
from structmat.explorer.queries import LONGEST
from structmat.explorer.service import NAMES, SECONDS, Service

HOST = "127.0.0.1"
_API = "/api/"
_DIGITS = 9  # maximum number of digits of a content length
_WEB = 80  # the default port, omitted from addresses
_LAST_PORT = 2**16 - 1


class Server(ThreadingHTTPServer):
    """Serves the explorer to browsers on this machine only.

    Parameters
    ----------
    port : int
        The port; 0 for any free one.
    first : mapping, optional
        The question about the network shown first.
    load : sequence of str
        Files and modules with user-defined families, which commands on the page must load.
    seconds : float
        The time limit of an answer.

    Raises
    ------
    StructmatError
        If the port is in use or invalid.

    Examples
    --------
    >>> with Server() as server:
    ...     server.address
    'http://127.0.0.1:.../'
    """

    daemon_threads = True
    request_queue_size = 64  # tabs opened simultaneously

    def __init__(
        self,
        port: int = 0,
        first: Mapping[str, Any] | None = None,
        load: Sequence[str] = (),
        *,
        seconds: float = SECONDS,
    ) -> None:
        if checked_integer(port, "port") > _LAST_PORT:
            raise StructmatError(f"port={port}: ports go up to {_LAST_PORT}; 0 selects a free one")
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise StructmatError(
                f"port={port}: cannot listen ({error.strerror}); 0 selects a free one"
            ) from None
        self.page = page(first, load=load)
        self.service = Service(seconds)

    @property
    def address(self) -> str:
        """The address of the page for a browser."""
        return f"http://{HOST}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a browser that disconnected before it was answered."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def server_close(self) -> None:
        """Stop the server and any computation."""
        super().server_close()
        if hasattr(self, "service"):  # missing if the port was in use
            self.service.stop()


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = 60

    def do_GET(self) -> None:
        if not self._is_ours():
            return
        if self.path.partition("?")[0] != "/":
            self._refuse(HTTPStatus.NOT_FOUND, f"there is no {self.path}; the page is at /")
            return
        self._send(HTTPStatus.OK, "text/html", self.server.page)

    def do_POST(self) -> None:
        if not self._is_ours():
            return
        name = self.path.removeprefix(_API)
        if self.path == name or name not in NAMES:
            self._refuse(HTTPStatus.NOT_FOUND, f"there is no {self.path}")
            return
        question = self._question()
        if question is None:
            return
        # Errors of the library have status 200, too, because browsers log other statuses as errors.
        self._json(HTTPStatus.OK, self.server.service.answer(name, question))

    def do_HEAD(self) -> None:
        self.do_GET()

    def _is_ours(self) -> bool:
        """Reject requests from pages of other sites, even via a name that resolves to this host."""
        port = self.server.server_port
        hosts = [f"{name}:{port}" for name in (HOST, "localhost")]
        if port == _WEB:
            hosts += [HOST, "localhost"]
        host, origin = self.headers.get("Host"), self.headers.get("Origin")
        if host in hosts and origin in (None, f"http://{host}"):
            return True
        self._refuse(HTTPStatus.FORBIDDEN, f"only requests from http://{hosts[0]}/ are answered")
        return False

    def _question(self) -> Any:
        """Return the question, or respond with an error and return None."""
        if self.headers.get_content_type() != "application/json":  # such as a form of another site
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "questions must be application/json")
            return None
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "Content-Length is required")
            return None
        if len(length) > _DIGITS or int(length) > LONGEST:
            self._refuse(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {LONGEST:,} bytes are accepted"
            )
            return None
        try:
            question = parse_json(self.rfile.read(int(length)), "a question")
        except FileError:
            question = None
        if question is None:
            self._refuse(HTTPStatus.BAD_REQUEST, "a question must be a JSON object")
        return question

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self._json(status, {"error": reason, "widths": []})

    def _json(self, status: HTTPStatus, value: Any) -> None:
        self._send(status, "application/json", json.dumps(value, ensure_ascii=False))

    def _send(self, status: HTTPStatus, kind: str, text: str) -> None:
        body = text.encode("utf-8")
        self.send_response(status)
        for name, value in (
            ("Content-Type", f"{kind}; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
            ("Referrer-Policy", "no-referrer"),
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing: the terminal belongs to the user."""
