"""GWLB's end on loopback, against appliances that are right and against some that are not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from appliance_sdk.dataplane.addresses import open_listeners
from appliance_sdk.dataplane.loopback import LoopbackReport, LoopbackSender, replay_over_udp
from appliance_sdk.dataplane.sockets import SocketPlane
from appliance_sdk.engine import DROP, FORWARD, REPLACED, Engine
from appliance_sdk.errors import ConfigError
from appliance_sdk.wire.build import build_tcp, build_udp
from appliance_sdk.wire.capture import ETHERNET, RAW, CaptureWriter, Frame
from appliance_sdk.wire.packet import ACK, RST

if TYPE_CHECKING:
    from tests.dataplane.conftest import ScriptedEngine

A, B = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])


@contextmanager
def _running(step: Callable[[], object]) -> Iterator[None]:
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            step()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def nodes(own_address: Callable[[], str]) -> list[str]:
    return [own_address(), own_address()]


@pytest.fixture
def target(
    engine: ScriptedEngine, own_address: Callable[[], str], raw: bool
) -> Iterator[tuple[str, int]]:
    """An appliance around the scripted engine, in a thread."""
    address = own_address()
    (listener,) = open_listeners([address])
    plane = SocketPlane(cast(Engine, engine), [listener], raw=raw)
    with _running(lambda: plane.poll(0.02)):
        yield address, 6081
    plane.close()
    listener.close()


def _play(
    target: tuple[str, int], nodes: list[str], packets: list[bytes], settle_s: float = 1.0
) -> LoopbackReport:
    with LoopbackSender(target, nodes=nodes, settle_s=settle_s) as sender:
        for packet in packets:
            sender.send(Frame(1.0, RAW, packet))
        return sender.finish()


def _queries(count: int, size: int = 100) -> list[bytes]:
    return [
        build_udp(A, B, 10000 + n % 50, 53, payload=bytes([n % 256]) * size, identification=n)
        for n in range(count)
    ]


def test_everything_forwarded_is_answered(target: tuple[str, int], nodes: list[str]) -> None:
    report = _play(target, nodes, _queries(1000, size=8400), settle_s=30)
    assert (report.sent, report.answered, report.dropped) == (1000, 1000, 0)
    assert report.changed == report.injected == report.misaddressed == 0


def test_equal_packets_are_counted_each(target: tuple[str, int], nodes: list[str]) -> None:
    report = _play(target, nodes, _queries(1) * 200, settle_s=30)
    assert (report.sent, report.answered, report.injected) == (200, 200, 0)


def test_drops_edits_and_injections_are_told_apart(
    engine: ScriptedEngine, target: tuple[str, int], nodes: list[str]
) -> None:
    def decide(payload: bytes) -> int:
        number = int.from_bytes(payload[44:46], "big")
        peer, local = engine.seen[-1][1:3]
        if number % 10 == 1:
            engine.outbox.append((peer, local, payload[:-4] + b"edit"))
            return REPLACED
        if number % 10 == 2:
            reset = build_tcp(B, A, 53, 10000, flags=RST | ACK, seq=number)
            engine.outbox.append((peer, local, payload[:40] + reset))
            return DROP
        return DROP if number % 10 == 3 else FORWARD

    engine.decide = decide
    report = _play(target, nodes, _queries(200))
    assert (report.answered, report.changed, report.dropped) == (140, 20, 40)
    assert report.injected == 20
    assert report.misaddressed == 0


def test_an_appliance_that_drops_everything_does_not_hold_up_for_long(
    engine: ScriptedEngine, target: tuple[str, int], nodes: list[str]
) -> None:
    engine.decide = lambda payload: DROP
    report = _play(target, nodes, _queries(150))
    assert (report.sent, report.answered, report.dropped) == (150, 0, 150)
    assert len(engine.seen) == 150


def test_one_packet_sent_back_twice(
    engine: ScriptedEngine, target: tuple[str, int], nodes: list[str]
) -> None:
    def decide(payload: bytes) -> int:
        peer, local = engine.seen[-1][1:3]
        if len(engine.seen) > 5:
            return DROP  # so that the sender waits for more
        engine.outbox.append((peer, local, payload))
        return FORWARD

    engine.decide = decide
    report = _play(target, nodes, _queries(6))
    assert (report.answered, report.injected, report.dropped) == (5, 5, 1)


def test_frames_that_cannot_be_sent_are_counted(
    target: tuple[str, int], nodes: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "x.pcap"
    with CaptureWriter(path, ETHERNET) as writer:
        writer.write(1.0, bytes(12) + b"\x08\x06" + bytes(28))
        writer.write(1.0, bytes(12) + b"\x08\x00" + build_udp(A, B, 1, 2))
        writer.write(1.0, bytes(12) + b"\x08\x00" + build_udp(A, B, 1, 2, payload=bytes(65_490)))
    report = replay_over_udp(path, target, nodes=nodes)
    assert (report.packets, report.sent, report.answered) == (3, 1, 1)
    assert report.skipped == {"not_ip": 1, "too_long": 1}


@pytest.mark.parametrize("fault", ["swapped ports", "other address", "other flow's port"])
def test_answers_that_gwlb_would_not_take(
    fault: str, nodes: list[str], own_address: Callable[[], str]
) -> None:
    address = own_address()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wrong,
    ):
        listener.bind((address, 6081))
        listener.settimeout(0.02)
        ports: list[int] = []

        def answer() -> None:
            try:
                payload, (node, port) = listener.recvfrom(65536)
            except TimeoutError:
                return
            if fault == "swapped ports":
                listener.sendto(payload, (node, port))
            elif fault == "other address":
                if not ports:
                    wrong.bind((own_address(), port))
                wrong.sendto(payload, (node, 6081))
            elif ports and port not in ports:
                wrong.sendto(payload, (node, 6081))
            elif not ports:
                wrong.bind((address, port))
            ports.append(port)

        with _running(answer):
            report = _play((address, 6081), nodes, _queries(40))
    assert report.answered == 0
    assert report.misaddressed > 0
    assert report.dropped == 40


def test_a_node_that_is_taken(nodes: list[str]) -> None:
    with (
        LoopbackSender(("127.0.0.1", 6081), nodes=nodes),
        pytest.raises(ConfigError, match="another process has UDP"),
    ):
        LoopbackSender(("127.0.0.1", 6081), nodes=nodes)
