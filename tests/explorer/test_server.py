"""The server answers requests of its own page only, and cancels outdated ones."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import threading

import pytest

import structmat as sm
from structmat.errors import StructmatError
from structmat.explorer.answers import answer, records
from structmat.explorer.html import page
from structmat.explorer.saved_networks import precomputed
from structmat.explorer.server import Server
from tests.explorer.conftest import running
from tests.explorer.test_worker import SLOW, asking
from tests.timeouts import PATIENCE

JSON = {"Content-Type": "application/json"}


def sent(server, method, path, body=None, headers=None):
    """The response of the server: status, headers and body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=PATIENCE)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.headers, response.read().decode("utf-8")
    finally:
        connection.close()


def asked(server, path, question, **headers):
    body = question if isinstance(question, bytes | str) else json.dumps(question)
    status, _, text = sent(server, "POST", path, body, JSON | headers)
    return status, json.loads(text)


def test_the_server_serves_the_page_on_loopback_only(server):
    assert server.server_address[0] == "127.0.0.1"
    status, headers, text = sent(server, "GET", "/")
    assert status == 200
    assert text == page()
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize("spec", ["butterfly(block=4)", "benes", "random(block=2, depth=2)"])
def test_answers_agree_with_the_library(server, spec):
    question = {"spec": spec, "width": 16}
    assert asked(server, "/api/network", question) == (
        200,
        json.loads(json.dumps(answer(question))),
    )
    status, found = asked(server, "/api/dimension", question)
    net = sm.parse(answer(question)["spec"])(16)
    assert (status, found) == (200, sm.dimension(net).to_dict() | {"late": False})
    status, found = asked(server, "/api/atlas", question)
    assert (status, found) == (200, records(question))


def test_library_errors_are_returned_unchanged(server):
    for path in ("/api/network", "/api/dimension"):
        status, found = asked(server, path, {"spec": "benes", "width": 12})
        with pytest.raises(StructmatError, match="nearest") as caught:
            sm.benes(12)
        assert status == 200
        assert found == {"error": str(caught.value), "widths": [2, 4, 8, 16, 32, 64, 128]}


@pytest.mark.parametrize(
    ("headers", "status", "words"),
    [
        ({"Host": "example.org"}, 403, "only requests from"),
        ({"Host": "127.0.0.1"}, 403, "only requests from"),  # without the port
        ({"Origin": "http://example.org"}, 403, "only requests from"),
        ({"Origin": "null"}, 403, "only requests from"),
        ({"Content-Type": "text/plain"}, 415, "application/json"),
        ({"Content-Length": "many"}, 411, "Content-Length"),
        ({"Content-Length": str(2**30)}, 413, "bytes are accepted"),
        ({"Content-Length": "1" * 5000}, 413, "bytes are accepted"),
    ],
)
def test_requests_from_other_origins_and_malformed_requests_are_rejected(
    server, headers, status, words
):
    got, found = asked(server, "/api/network", {"spec": "benes", "width": 8}, **headers)
    assert got == status
    assert words in found["error"]


def test_port_80_is_not_part_of_an_address(monkeypatch):
    with running() as server:
        port = server.server_port
        question, other = {"spec": "benes", "width": 8}, {"Origin": "http://127.0.0.1:81"}
        monkeypatch.setattr(server, "server_port", 80)
        for name in ("127.0.0.1", "localhost"):
            for host in (name, f"{name}:80"):
                headers = JSON | {"Host": host, "Origin": f"http://{host}"}
                assert status_at(port, "/", headers) == 200
                assert status_at(port, "/api/network", headers, question) == 200
                assert status_at(port, "/", headers | other) == 403
        assert status_at(port, "/", {"Host": "example.org"}) == 403


def status_at(port, path, headers, question=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        method = "GET" if question is None else "POST"
        connection.request(method, path, json.dumps(question), headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_head_requests_have_the_headers_of_get(server):
    status, headers, text = sent(server, "HEAD", "/")
    assert (status, text) == (200, "")
    assert headers["Content-Length"] == str(len(page().encode()))
    assert sent(server, "HEAD", "/api/network")[0] == 404


def test_concurrent_requests_are_answered():
    with Server() as server, contextlib.ExitStack() as stack:  # which has not begun to answer
        for _ in range(40):
            address = ("127.0.0.1", server.server_port)
            stack.enter_context(socket.create_connection(address, timeout=PATIENCE))


def test_localhost_is_accepted_as_host(server):
    host = f"localhost:{server.server_port}"
    got, _ = asked(server, "/api/network", {"spec": "benes", "width": 8}, Host=host)
    assert got == 200
    assert sent(server, "GET", "/", headers={"Host": host})[0] == 200
    assert sent(server, "GET", "/", headers={"Host": "example.org"})[0] == 403


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 10**5, b"null"])
def test_invalid_json_is_rejected(server, text):
    got, found = asked(server, "/api/network", text)
    assert got == 400
    assert "must be a JSON object" in found["error"]


def test_other_paths_are_not_found(server):
    assert sent(server, "GET", "/../pyproject.toml")[0] == 404
    assert sent(server, "GET", "/api/network")[0] == 404
    for path in ("/api/other", "/api/row", "/api/", "/network", "/api/network/"):
        assert asked(server, path, {})[0] == 404
    assert sent(server, "PUT", "/")[0] == 501


def test_an_occupied_or_invalid_port_is_rejected(server):
    with pytest.raises(StructmatError, match="cannot listen"):
        Server(server.server_port)
    for port in (-1, 70_000):
        with pytest.raises(StructmatError, match=f"port={port}"):
            Server(port)


def test_stopping_the_server_cancels_running_computations():
    answers = []
    server = Server(seconds=PATIENCE)
    thread = asking(server.service.worker("dimension"), SLOW, "a page", answers)
    server.server_close()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert answers == [None]


def test_a_disconnected_browser_is_not_an_error(capfd, monkeypatch):
    with running() as server:
        left = threading.Event()

        def late(name, question):
            assert left.wait(PATIENCE)
            return {"much": "x" * 10**7}  # more than any buffer takes

        monkeypatch.setattr(server.service, "answer", late)
        body = json.dumps({"spec": "benes", "width": 8}).encode()
        with socket.create_connection(("127.0.0.1", server.server_port)) as one:
            host = f"127.0.0.1:{server.server_port}"
            head = f"POST /api/dimension HTTP/1.0\r\nHost: {host}\r\nContent-Length: {len(body)}"
            one.sendall(f"{head}\r\nContent-Type: application/json\r\n\r\n".encode() + body)
        left.set()
        assert sent(server, "GET", "/")[0] == 200
        for thread in threading.enumerate():
            if "process_request_thread" in thread.name:
                thread.join(PATIENCE)
    assert capfd.readouterr().err == ""


def test_the_content_security_policy_allows_only_the_script_of_the_page():
    for text, connects in (
        (page(), "'self'"),
        (page(saved=precomputed(["benes"], [4])), "'none'"),
    ):
        policy = text.split('http-equiv="Content-Security-Policy" content="')[1].split('"')[0]
        rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
        assert rules["default-src"] == "'none'"
        assert rules["connect-src"] == connects
        assert "unsafe" not in policy
        assert text.count("<script") == 2  # the data and the script
        assert " src=" not in text
        assert "@import" not in text


def test_embedded_data_cannot_close_their_element():
    shown = page({"spec": "</script><script>alert(1)</script>", "width": 8})
    assert "</script><script>alert" not in shown


def test_the_explorer_does_not_load_torch():
    program = (
        "import structmat.explorer.server, structmat.explorer.saved_networks, structmat.cli, sys;"
        "print(*{'torch', 'matplotlib', 'tqdm'} & {n.split('.')[0] for n in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
