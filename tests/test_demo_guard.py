"""What a connection to the drawing page may ask for, before there is a request."""

import contextlib
import select
import socket
import threading
import time

import pytest

from nnpipe import Classifier
from nnpipe.demo import answers, guard
from nnpipe.demo.app import create_app

from .conftest import ROOT
from .serving import SECONDS, process, serving

HOST = b"Host: localhost\r\n"
GET = b"GET /healthz HTTP/1.1\r\n" + HOST
LENGTH = b"Content-Length: 1\r\n"
POST = b"POST /api/predict HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def client():
    """A server as `nnpipe demo` starts it."""
    app = create_app(Classifier.load())
    with serving(app, http=guard.Guard, loop="asyncio", ws="none") as client:
        yield client


def connect(client):
    return socket.create_connection(("127.0.0.1", client.port), timeout=SECONDS)


def exchange(client, content):
    """Send bytes, and return what comes until the server closes the connection."""
    answer = b""
    with connect(client) as connection, contextlib.suppress(ConnectionError):
        with contextlib.suppress(ConnectionError):  # it may close before it has all
            connection.sendall(content)
        while piece := connection.recv(65536):
            answer += piece
    return answer


def closed(connection):
    """Whether the server has closed a connection."""
    if not select.select([connection], [], [], 0)[0]:
        return False
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except ConnectionError:
        return True


def wait_until(condition):
    """Wait for what a server does in its own time; a busy machine takes longer."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


REFUSED = {
    "a long URL": b"GET /" + b"a" * 30_000,
    "a long header": GET + b"X: " + b"a" * 30_000,
    "a long name": GET + b"a" * 30_000,
    "many headers": GET + b"a: b\r\n" * 101 + b"\r\n",
    "many lines before the request": b"\r\n" * 15_000,
    "a long trailer": POST
    + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: "
    + b"a" * 30_000,
    "many trailers": CHUNKED + b"0\r\n" + b"a: b\r\n" * 101,
    "a long extension": CHUNKED + b"1;" + b"a" * 30_000,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "two lengths": POST + LENGTH + b"Content-Length: 2\r\n\r\naa",
    "a length and chunks": POST
    + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a negative length": POST + b"Content-Length: -1\r\n\r\n",
    "a huge length": POST + b"Content-Length: 99999999999999999999\r\n\r\n",
    "a tunnel": b"CONNECT example.org:443 HTTP/1.1\r\n" + HOST + b"\r\n",
    "no path": b"GET http://localhost HTTP/1.1\r\n" + HOST + b"\r\n",
}


@pytest.mark.parametrize("content", REFUSED.values(), ids=REFUSED)
def test_what_is_no_request_or_too_large_is_refused_and_the_connection_ends(client, content):
    """With a sentence, unless the client has begun a body."""
    answer = exchange(client, content)
    assert answer.startswith(b"HTTP/1.1 400 ") or (content.startswith(POST) and not answer)
    assert not answer or b'{"detail": "this is not an HTTP/1.1 request' in answer
    assert client.get("/healthz").status == 200


ANSWERED = {
    "a browser's head": GET + b"X-Header: 0123456789\r\n" * 95,
    "a long head": GET + b"X: " + b"a" * 16_000 + b"\r\n",
    "an absolute address": b"GET http://localhost/healthz HTTP/1.1\r\n" + HOST,
    "an upgrade": GET + b"Connection: upgrade\r\nUpgrade: websocket\r\n",
    "HTTP/1.0": b"GET /healthz HTTP/1.0\r\n" + HOST,
}


@pytest.mark.parametrize("head", ANSWERED.values(), ids=ANSWERED)
def test_other_requests_are_answered(client, head):
    """Also if the head comes in two pieces."""
    with connect(client) as connection:
        connection.sendall(head[:30])
        time.sleep(0.05)
        connection.sendall(head[30:] + b"\r\n")
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 200 OK")


def test_a_body_is_read_after_the_client_has_asked_whether_to_send_it(client):
    with connect(client) as connection:
        connection.sendall(POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"hello")
        assert connection.recv(1000).startswith(b"HTTP/1.1 415 ")


def test_a_few_pipelined_requests_are_answered_in_order_and_many_are_not(client):
    request, last = GET + b"\r\n", GET + b"Connection: close\r\n\r\n"
    assert exchange(client, 5 * request + last).count(b"200 OK") == 6
    assert exchange(client, 50 * request).count(b"200 OK") < 50


def test_a_refusal_never_stands_for_the_answer_to_an_earlier_request(client):
    assert b" 400 " not in exchange(client, GET + b"\r\nno request\r\n\r\n")


@pytest.mark.parametrize("start", [b"", b"GET /hea", GET + b"X: a", b"\r\n"], ids=repr)
def test_a_head_that_does_not_come_is_not_waited_for(client, monkeypatch, start):
    """Not even if a byte comes now and then."""
    monkeypatch.setattr(guard, "HEAD_SECONDS", 0.4)
    begun = time.monotonic()
    with connect(client) as connection:
        connection.sendall(start)
        while not closed(connection):
            assert time.monotonic() - begun < SECONDS
            with contextlib.suppress(ConnectionError):
                connection.sendall(b"\r\n" if start == b"\r\n" else b"a" * bool(start))
            time.sleep(0.05)
    assert 0.3 < time.monotonic() - begun < 5


def test_a_body_that_is_refused_is_not_read_for_ever(client, monkeypatch):
    monkeypatch.setattr(guard, "HEAD_SECONDS", 0.4)
    begun = time.monotonic()
    with connect(client) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(b"POST /nowhere HTTP/1.1\r\n" + HOST + b"Content-Length: 99999\r\n\r\n")
        while True:
            connection.sendall(b"a")
            assert time.monotonic() - begun < SECONDS
            time.sleep(0.05)


@pytest.mark.slow
def test_a_client_that_does_not_take_its_answers_is_not_waited_for(client, monkeypatch):
    monkeypatch.setattr(guard, "REQUEST_SECONDS", 0.4)
    monkeypatch.setattr(guard, "HEAD_SECONDS", 0.4)
    request = b"GET /main.js HTTP/1.1\r\n" + HOST + b"\r\n"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.settimeout(SECONDS)
        connection.connect(("127.0.0.1", client.port))
        end = time.monotonic() + SECONDS
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < end:  # until the server has ended the connection
                connection.sendall(request)
                time.sleep(0.01)
    assert time.monotonic() < end


def test_idle_connections_of_one_client_are_few_and_the_oldest_ends_first(client):
    connections = [connect(client) for _ in range(guard.MAX_PER_CLIENT + 20)]
    try:
        wait_until(lambda: all(map(closed, connections[:20])))
        assert not any(closed(connection) for connection in connections[21:])
        assert client.get("/healthz").status == 200
    finally:
        for connection in connections:
            connection.close()


def test_idle_connections_are_few_in_all(client, monkeypatch):
    monkeypatch.setattr(guard, "MAX_CONNECTIONS", 5)
    connections = [connect(client) for _ in range(20)]
    try:
        wait_until(lambda: sum(map(closed, connections)) >= 15)
        assert client.get("/healthz").status == 200
    finally:
        for connection in connections:
            connection.close()


def test_a_connection_is_asked_to_come_again_while_all_others_are_being_answered(
    client, monkeypatch
):
    go_on = threading.Event()
    monkeypatch.setattr(answers, "answer", lambda *_, **__: go_on.wait(SECONDS) and b"{}")
    monkeypatch.setattr(guard, "MAX_PER_CLIENT", 2)
    time.sleep(0.2)  # until the connections of other tests have ended
    with connect(client) as first, connect(client) as second:
        try:
            for connection in (first, second):
                connection.sendall(POST + LENGTH + b"\r\na")
            time.sleep(0.2)
            answer = exchange(client, b"")
            assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n")
            assert answer.endswith(b'{"detail": "too many connections are open; try again"}')
        finally:
            go_on.set()
        assert first.recv(1000).startswith(b"HTTP/1.1 200 ")


@pytest.mark.slow
def test_uvicorn_takes_the_same_limits():
    """With the options that docs/demo.md gives, without which the head goes on."""
    app = ["uvicorn", "nnpipe.demo.app:app", "--port", "0"]
    options = ["--http", "nnpipe.demo.guard:Guard", "--loop", "asyncio", "--ws", "none"]
    assert " ".join(options) in (ROOT / "docs" / "demo.md").read_text()
    with process(*app, *options) as (_, client):
        assert exchange(client, REFUSED["a long header"]).startswith(b"HTTP/1.1 400 ")


def test_the_end_of_an_answer_does_not_wait_for_the_client(client, monkeypatch):
    """Else, on a connection that stays open, it would come 40 ms late."""
    found = []

    def on_headers_complete(self):
        original(self)
        connection = self.transport.get_extra_info("socket")
        found.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    original = guard.Guard.on_headers_complete
    monkeypatch.setattr(guard.Guard, "on_headers_complete", on_headers_complete)
    assert client.get("/healthz").status == 200
    assert found[0]


def test_one_client_does_not_take_all_places_for_pictures(client):
    """Its own bodies that do not come make room for its next picture."""
    connections = [connect(client) for _ in range(100)]
    try:
        for connection in connections:
            with contextlib.suppress(ConnectionError):
                connection.sendall(POST + b"Content-Length: 9\r\n\r\na")
        assert client.post(b"hello").status == 415
    finally:
        for connection in connections:
            connection.close()
