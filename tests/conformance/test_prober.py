"""Health checks of the suite: what is an answer, and what is wrong with the others."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from appliance_sdk.conformance.case import NotConformant
from appliance_sdk.conformance.prober import HealthPort

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nyes"


def answered(what: bytes, *, read: bool = True, reset: bool = False) -> Callable[..., None]:
    """A server's part in one connection."""

    def serve(connection: socket.socket) -> None:
        if read:
            connection.recv(4096)
        connection.sendall(what)
        if reset:
            connection.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
            )  # no FIN, a RST

    return serve


def silent(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.recv(4096)


def lingering(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(OK)
    connection.recv(4096)


def endless(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    with contextlib.suppress(OSError):
        while True:
            connection.sendall(b"X-More: of this\r\n" * 100)


@contextlib.contextmanager
def served(*turns: Callable[[socket.socket], None]) -> Iterator[HealthPort]:
    """A health port that serves one connection after the other."""
    server = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        for turn in turns:
            with contextlib.suppress(OSError), server.accept()[0] as connection:
                turn(connection)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield HealthPort("127.0.0.1", server.getsockname()[1], "/ok", ("127.0.0.1",), True)
    server.close()


@pytest.mark.parametrize(
    "text",
    [
        OK,
        b"HTTP/1.0 204 \r\n\r\n",
        b"HTTP/1.1 399 Anything Goes\r\n\r\nuntil it is closed",
        b"HTTP/1.1 302 Found\r\nLocation: /login\r\ncontent-length:0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nyes\r\n0\r\n\r\n",
    ],
)
def test_a_healthy_answer(text: bytes) -> None:
    with served(answered(text)) as port:
        port.check()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"HTTP/1.1 503 Draining\r\nContent-Length: 0\r\n\r\n", "answered 503"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "answered 404"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: yes\r\n\r\n", "not HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n", "not HTTP/1.1"),
        (b"HTTP/2 200 OK\r\n\r\n", "not HTTP/1.1"),
        (b"OK\r\n", "not HTTP/1.1"),
        (b"\x00\xff", "not HTTP/1.1"),
        (b"", "closed without an answer"),
    ],
)
def test_what_is_no_healthy_answer_is_said(text: bytes, problem: str) -> None:
    with served(answered(text)) as port, pytest.raises(NotConformant, match=problem):
        port.check()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", "LF, not with CRLF"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\n\r\n", "LF, not with CRLF"),
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "the status line"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nyes", "1 bytes follow the end"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nyes", "without sending complete"),
    ],
)
def test_what_many_clients_forgive_is_wrong_all_the_same(text: bytes, problem: str) -> None:
    with served(answered(text), answered(text)) as port:
        port.check()
        with port.connect() as connection:
            connection.send(port.request())
            with pytest.raises(NotConformant, match=problem):
                connection.answer(strict=True)


def test_a_reset_is_told_from_an_end() -> None:
    with served(answered(OK), answered(OK, reset=True)) as port:
        endings = []
        for _ in range(2):
            with port.connect() as connection:
                connection.send(port.request())
                connection.answer()
                endings.append(connection.ending())
    assert endings == ["closed", "reset"]


def test_a_connection_that_stays_open_is_told() -> None:
    with served(lingering) as port, port.connect(timeout_s=0.2) as connection:
        connection.send(port.request())
        connection.answer()
        assert connection.ending() == "open"


def test_silence_ends_with_the_timeout() -> None:
    with served(silent) as port, pytest.raises(NotConformant, match=r"missing after 0\.2 s"):
        port.check(timeout_s=0.2)


def test_an_answer_without_end_is_given_up() -> None:
    with served(endless) as port, pytest.raises(NotConformant, match="is not HTTP"):
        port.check()


def test_a_closed_port_is_said() -> None:
    with served() as port:
        pass
    with pytest.raises(NotConformant, match="Connection refused"):
        port.check()
    with pytest.raises(NotConformant, match="Connection refused"):
        port._replace(http=False).check()


def test_a_target_is_out_after_two_failures_in_a_row() -> None:
    bad = answered(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
    with served(bad, answered(OK)) as port:
        port.passes()
    with served(bad, bad) as port:
        assert "answered 500" in port.failing()


def test_a_request_is_what_a_load_balancer_sends() -> None:
    port = HealthPort("127.0.0.9", 8080, "/ok", ("127.0.0.1",), True)
    assert port.request() == (
        b"GET /ok HTTP/1.1\r\nHost: 127.0.0.9:8080\r\n"
        b"User-Agent: ELB-HealthChecker/2.0\r\nConnection: close\r\n\r\n"
    )
    assert port.request("HEAD", "/x", version="1.0", headers={}) == b"HEAD /x HTTP/1.0\r\n\r\n"
