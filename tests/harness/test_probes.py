"""Health checks over real sockets: each way in which a target can answer, or not."""

from __future__ import annotations

import contextlib
import select
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance_sdk.harness import HealthCheck, Target, free_loopback
from appliance_sdk.harness.checks import Probe
from appliance_sdk.harness.probes import Probing

FAILED, TIMED_OUT = "Target.FailedHealthChecks", "Target.Timeout"
WRONG_CODE = "Target.ResponseCodeMismatch"
_PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def net() -> str:
    return free_loopback()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that nobody would trust: self-signed, expired by name."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=nobody"]
    made = [*command, "-keyout", f"{path}.key", "-out", f"{path}.crt"]
    subprocess.run(made, check=True, capture_output=True, timeout=60)
    path.write_text(Path(f"{path}.key").read_text() + Path(f"{path}.crt").read_text())
    return path


@contextlib.contextmanager
def target(net: str, serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Whoever connects is served, one after the other; the port."""
    listener = socket.create_server((f"{net}.0.101", 0))

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                serve(connection)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(_PATIENCE_S)


def ask(net: str, port: int, timeout_s: float = _PATIENCE_S, **settings: object) -> str:
    """The result of one health check."""
    check = HealthCheck(port=port, **settings)  # type: ignore[arg-type]
    probe = Probe("gwlb", Target("t", f"{net}.0.101", "a"), "a", f"{net}.0.11", check, "me/1.0")
    return run([probe], timeout_s)[0]


def run(probes: list[Probe], timeout_s: float) -> list[str]:
    """The results of health checks, as the fleet gets them."""
    probing = Probing()
    for probe in probes:
        probing.begin(probe, time.monotonic(), timeout_s)
    while len(probing.results) < len(probes):
        poller = select.poll()
        for descriptor, events in probing.events.items():
            poller.register(descriptor, events)
        for descriptor, _ in poller.poll(50):
            probing.ready(descriptor)
        probing.expire(time.monotonic())
    assert probing.events == {}
    assert probing.next_deadline() == float("inf")
    return [result.reason for result in probing.results]


def answers(answer: bytes) -> Callable[[socket.socket], None]:
    def serve(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(answer)

    return serve


def hangs(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.recv(4096)  # until the other side gives up


def test_a_closed_port(net: str) -> None:
    with target(net, hangs) as port:
        pass
    assert ask(net, port) == FAILED
    assert ask(net, port, protocol="HTTP") == FAILED


def test_tcp_needs_no_more_than_a_connection(net: str) -> None:
    with target(net, lambda connection: None) as port:
        assert ask(net, port) == ""


@pytest.mark.parametrize(
    ("answer", "matcher", "result"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", "200-399", ""),
        (b"HTTP/1.0 302 Found\r\n\r\n", "200-399", ""),
        (b"HTTP/1.1 302 Found\r\n\r\n", "200", WRONG_CODE),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "200,204", ""),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "200-399", WRONG_CODE),
        (b"HTTP/1.1 500 Oops\r\n\r\n", "200-399", WRONG_CODE),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "200-399", FAILED),
        (b"HTTP/1.1 two hundred\r\n", "200-399", FAILED),
        (b"HTTP/1.1 200 OK", "200-399", FAILED),  # and no more: the line does not end
        (b"x" * 5000, "200-399", FAILED),
        (b"", "200-399", FAILED),
    ],
)
def test_http_is_judged_by_its_status_line(
    net: str, answer: bytes, matcher: str, result: str
) -> None:
    with target(net, answers(answer)) as port:
        assert ask(net, port, protocol="HTTP", matcher=matcher) == result


def test_the_request_is_a_proper_one(net: str) -> None:
    asked: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        asked.append(connection.recv(4096))
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

    with target(net, serve) as port:
        assert ask(net, port, protocol="HTTP", path="/health?deep=1") == ""
    lines = asked[0].decode().split("\r\n")
    assert lines[0] == "GET /health?deep=1 HTTP/1.1"
    assert lines[1:4] == [f"Host: {net}.0.101:{port}", "User-Agent: me/1.0", "Connection: close"]


@pytest.mark.parametrize("protocol", ["HTTP", "HTTPS"])
def test_who_accepts_and_says_nothing_times_out(net: str, protocol: str) -> None:
    with target(net, hangs) as port:
        assert ask(net, port, 0.2, protocol=protocol) == TIMED_OUT


def test_a_line_that_comes_in_pieces_counts_when_it_is_whole(net: str) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(4096)
        for byte in b"HTTP/1.1 200 OK\r\n":
            connection.sendall(bytes((byte,)))
            time.sleep(0.001)

    with target(net, serve) as port:
        assert ask(net, port, protocol="HTTP") == ""


def over_tls(
    certificate: Path, answer: bytes, oldest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
) -> Callable[[socket.socket], None]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.minimum_version = oldest

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(4096)
            secure.sendall(answer)

    return serve


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", ""),
        (b"HTTP/1.1 503 Busy\r\n\r\n", WRONG_CODE),
        (b"what?\r\n", FAILED),
    ],
)
def test_https_takes_any_certificate(
    net: str, certificate: Path, answer: bytes, result: str
) -> None:
    with target(net, over_tls(certificate, answer)) as port:
        assert ask(net, port, protocol="HTTPS") == result


def test_tls_1_3_alone_fails(net: str, certificate: Path) -> None:
    serve = over_tls(certificate, b"HTTP/1.1 200 OK\r\n\r\n", ssl.TLSVersion.TLSv1_3)
    with target(net, serve) as port:
        assert ask(net, port, protocol="HTTPS") == FAILED


def test_https_asked_of_plain_http_fails(net: str) -> None:
    with target(net, answers(b"HTTP/1.1 200 OK\r\n\r\n")) as port:
        assert ask(net, port, protocol="HTTPS") == FAILED


def test_many_at_once_from_two_nodes(net: str) -> None:
    peers: list[str] = []

    def serve(connection: socket.socket) -> None:
        peers.append(connection.getpeername()[0])
        answers(b"HTTP/1.1 200 OK\r\n\r\n")(connection)

    with target(net, serve) as port:
        check = HealthCheck(port=port, protocol="HTTP")
        probes = [
            Probe("gwlb", Target("t", f"{net}.0.101", "a"), "a", f"{net}.0.{node}", check)
            for node in (11, 12)
            for _ in range(8)
        ]
        assert run(probes, _PATIENCE_S) == [""] * 16
    assert {peer: peers.count(peer) for peer in peers} == {f"{net}.0.11": 8, f"{net}.0.12": 8}


@pytest.mark.parametrize(("close", "ended"), [("fin", b""), ("reset", None)])
def test_how_a_check_closes_its_connection(net: str, close: str, ended: bytes | None) -> None:
    seen: list[bytes | None] = []

    def serve(connection: socket.socket) -> None:
        try:
            seen.append(connection.recv(1))
        except ConnectionResetError:
            seen.append(None)

    with target(net, serve) as port:
        check = HealthCheck(port=port)
        at = Target("t", f"{net}.0.101", "a")
        probe = Probe("gwlb", at, "a", f"{net}.0.11", check, close=close)
        assert run([probe], _PATIENCE_S) == [""]
        deadline = time.monotonic() + _PATIENCE_S
        while not seen and time.monotonic() < deadline:
            time.sleep(0.005)
    assert seen == [ended]


def test_an_address_that_cannot_be_bound_fails(net: str) -> None:
    check = HealthCheck(port=80)
    probe = Probe("gwlb", Target("t", f"{net}.0.101", "a"), "a", "192.0.2.1", check)
    assert run([probe], _PATIENCE_S) == [FAILED]
