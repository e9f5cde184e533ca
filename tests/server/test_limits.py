"""What the system does not grant: counted, said in health, and fatal to nobody."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .conftest import Running
from .test_workers import ask, flow, launched

Launch = Callable[..., Running]
MEBIBYTE = 1 << 20


def supervisor(running: Running) -> int:
    workers = {worker["pid"] for worker in running.details()["workers"]}
    (pid,) = set(running.children()) - workers
    return pid


def address_space(pid: int) -> int:
    """Bytes of it that a process has taken."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()


def limit(pid: int, what: int, soft: int) -> int:
    """Limit a running process; the limit that it had."""
    before, hard = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (soft, hard))
    return before


def heard(running: Running) -> bytes:
    try:
        return running._receiver.recv(65535)
    except TimeoutError:
        return b""


def descriptors(pid: int) -> list[int]:
    return [int(name) for name in os.listdir(f"/proc/{pid}/fd")]


def test_a_buffer_that_the_kernel_does_not_grant_is_said(launch: Launch) -> None:
    wanted = (1 << 31) - 1  # more than any process gets
    running = launch(listen=f"raw = false\nreceive_buffer_bytes = {wanted}\n").ready()
    (said,) = running.logged("listen.small_buffer")
    assert 0 < said["bytes"] < wanted == said["wanted"]
    assert "net.core.rmem_max" in said["hint"]
    (worker,) = running.details()["workers"]
    assert worker["receive_buffer_bytes"] == said["bytes"]
    assert running.passes(80)


def test_a_buffer_that_is_granted_is_no_matter(launch: Launch) -> None:
    running = launch(listen="raw = false\nreceive_buffer_bytes = 65536\n").ready()
    assert running.details()["workers"][0]["receive_buffer_bytes"] == 65536
    assert not running.logged("listen.small_buffer")


def test_without_memory_flows_are_refused_and_no_worker_is_lost(launch: Launch) -> None:
    running = launched(launch)
    pids = [worker["pid"] for worker in running.details()["workers"]]
    for pid in pids:
        limit(pid, resource.RLIMIT_AS, address_space(pid) + 48 * MEBIBYTE)
    # Each wants 32 MiB. Where the plugin fails, the policy for errors keeps the flow back.
    refused = [n for n in range(40) if ask(running, [flow(n, port=7012)], patience_s=0.3)]
    assert len(refused) >= 36

    def errors() -> Any:
        return running.details()["counters"]["plugin_errors"].get("blocker", 0)

    running.until(lambda: errors() == len(refused), "counted")
    assert {"MemoryError" in one["error"] for one in running.logged("plugin.error")} == {True}
    assert not ask(running, [flow(number) for number in range(200)])
    assert [worker["pid"] for worker in running.details()["workers"]] == pids


def test_at_the_descriptor_limit_every_source_port_is_still_answered(launch: Launch) -> None:
    running = launch().ready()
    worker = running.worker_pid()
    limit(worker, resource.RLIMIT_NOFILE, max(descriptors(worker)) + 4)
    for number in range(12):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((running.node, 0))
            data = running.packet(80, source_port=6000 + number)
            sender.sendto(data, (running.address, 6081))
            assert running.until(lambda: heard(running), "answered") == data
    assert running.worker_pid() == worker


def test_without_a_descriptor_answers_are_counted_and_health_says_so(launch: Launch) -> None:
    running = launch().ready()
    worker = running.worker_pid()
    before = limit(worker, resource.RLIMIT_NOFILE, 3)  # fewer than it has
    for number in range(5):
        running.send(running.packet(80, source_port=6000 + number))
    counters = running.until(
        lambda: c if (c := running.details()["counters"])["send_errors"] else None, "counted"
    )
    assert set(counters["send_errors"]) == {"EMFILE"}
    assert running.health() == (200, "degraded\n")
    assert "met a limit of the system" in running.details()["reasons"][0]
    limit(worker, resource.RLIMIT_NOFILE, before)
    assert running.passes(80)
    assert running.worker_pid() == worker


def test_connections_that_take_every_descriptor_stop_no_packet_and_health_comes_back(
    launch: Launch,
) -> None:
    running = launched(launch)
    pid = supervisor(running)
    limit(pid, resource.RLIMIT_NOFILE, max(descriptors(pid)) + 40)
    idle = [socket.create_connection((running.address, running.health_port), 5) for _ in range(60)]
    assert not ask(running, [flow(number) for number in range(100)])

    def checked() -> bool:
        with contextlib.suppress(TimeoutError):
            return running.health() == (200, "ready\n")
        return False

    running.until(checked, "idle ones have to go")
    for one in idle:
        one.close()
    running.until(checked, "all is free again")
    assert supervisor(running) == pid
    (said,) = running.logged("health.port_failed")
    assert "Too many open files" in said["error"]
