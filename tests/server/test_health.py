"""What health checks meet, on the wire."""

from __future__ import annotations

import concurrent.futures
import socket
import time
from collections.abc import Callable

import pytest

from appliance_sdk import ConfigError
from appliance_sdk.server.config import Health
from appliance_sdk.server.health import open_health_socket

from .conftest import Running

Launch = Callable[..., Running]


def raw(running: Running, request: bytes) -> bytes:
    with socket.create_connection((running.address, running.health_port), 5) as sock:
        sock.sendall(request)
        answer = b""
        while piece := sock.recv(4096):
            answer += piece
        return answer


def test_any_path_answers_with_a_proper_response_and_closes(launch: Launch) -> None:
    running = launch().ready()
    answer = raw(running, b"GET /any/path HTTP/1.1\r\nHost: x\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"connection: close" in head
    assert body == b"ready\n"
    assert raw(running, b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 OK\r\n")
    head_only = raw(running, b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert head_only.endswith(b"\r\n\r\n")
    assert raw(running, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").startswith(
        b"HTTP/1.1 405 "
    )
    assert raw(running, b"\x16\x03\x01\x02\0 rubbish\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert raw(running, b"GET /" + b"x" * 20000).startswith(b"HTTP/1.1 400 ")


def test_many_checks_at_once_and_idle_connections_do_not_starve_them(launch: Launch) -> None:
    running = launch().ready()
    idle = [socket.create_connection((running.address, running.health_port), 5) for _ in range(100)]
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: running.health()[0], range(200)))
    assert answers == [200] * 200
    for sock in idle:
        sock.close()
    assert not running.logged("supervisor.died")


def test_more_idle_connections_than_are_kept_make_room_for_a_check(launch: Launch) -> None:
    running = launch().ready()
    idle = [socket.create_connection((running.address, running.health_port), 5) for _ in range(600)]
    for _ in range(20):
        assert running.health() == (200, "ready\n")
    for sock in idle:
        sock.close()


def test_connections_that_say_nothing_make_no_noise(launch: Launch) -> None:
    running = launch().ready()
    before = running.log.read_text()
    for _ in range(20):
        socket.create_connection((running.address, running.health_port), 5).close()
    assert running.health()[0] == 200
    assert running.log.read_text() == before


def test_tcp_checks_find_the_port_open_only_while_healthy(launch: Launch) -> None:
    running = launch(settings='kind = "tcp"\nstalled_s = 0.4\n')
    running.until(lambda: _connects(running), "open")
    running.send(running.packet(7001))
    running.until(lambda: not _connects(running), "closed while the worker hangs")
    running.until(lambda: _connects(running), "open again")


def test_a_port_of_tcp_checks_that_another_took_is_said_once(launch: Launch) -> None:
    running = launch(settings='kind = "tcp"\nstalled_s = 0.4\n')
    running.until(lambda: _connects(running), "open")
    running.send(running.packet(7001))
    running.until(lambda: running.logged("worker.hung"), "closed while the worker hangs")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((running.address, running.health_port))
        other.listen()
        running.until(lambda: running.logged("health.port_failed"), "said")
        time.sleep(0.5)
        assert len(running.logged("health.port_failed")) == 1
    running.until(lambda: _connects(running), "open again")


def _connects(running: Running) -> bool:
    try:
        socket.create_connection((running.address, running.health_port), 5).close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_plugin_over_its_error_budget_fails_health_and_keeps_its_policy(launch: Launch) -> None:
    running = launch(settings="[engine]\nerror_budget = 5\n").ready()
    for number in range(6):
        running.passes(7002, source_port=7000 + number, wait_s=0.02)
    running.until(lambda: running.health()[0] == 503, "unhealthy")
    assert running.details()["reasons"] == ["plugin blocker: too many errors"]
    assert running.passes(80)
    assert not running.passes(7002, source_port=9999, wait_s=0.1)


def test_an_address_of_another_machine_is_not_a_port_in_use() -> None:
    with pytest.raises(ConfigError, match="is not an address of this machine") as caught:
        open_health_socket(Health(address="203.0.113.5", port=8080))
    assert caught.value.key == "health.address"
