"""A load balancer that shares no code with the project, against an appliance process."""

from __future__ import annotations

import ast
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SUPPORT = Path(__file__).parents[1] / "support"
SENDER = SUPPORT / "independent_sender.py"


def _send(target: str, nodes: list[str], *options: str) -> dict[str, Any]:
    command = [sys.executable, str(SENDER), "--target", target, "--nodes", ",".join(nodes)]
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.stdout, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if result["right"] else 1)
    return result


def _appliance(address: str, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(SUPPORT / "appliance_process.py"), "--address", address]
    process = subprocess.Popen(
        [*command, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.fixture
def nodes(own_address: Callable[[], str]) -> list[str]:
    return [own_address() for _ in range(3)]


def test_it_shares_nothing_with_the_project() -> None:
    tree = ast.parse(SENDER.read_text())
    imported = {
        name.split(".")[0]
        for found in ast.walk(tree)
        if isinstance(found, ast.Import | ast.ImportFrom)
        for name in [getattr(found, "module", None) or found.names[0].name]
    }
    assert "appliance_sdk" not in imported
    assert imported <= sys.stdlib_module_names


def test_20000_packets_of_500_flows_come_back_to_the_byte(
    raw: bool, nodes: list[str], own_address: Callable[[], str]
) -> None:
    address = own_address()
    with _appliance(address, "--replies", "raw" if raw else "ports") as process:
        ports = "6081,20000-20199,61000-61020,65535"
        result = _send(address, nodes, "--ports", ports)
        counters = json.loads(process.communicate("")[0])
    assert result["wrong"] == []
    assert (result["sent"], result["answered"], result["flows"]) == (20_000, 20_000, 500)
    assert result["ports"] > 200
    assert result["largest"] == 8500
    assert counters["raw"] is raw
    assert counters["received"] == counters["sent"] == 20_000
    assert counters["drops"] == counters["send_errors"] == {}
    assert counters["flows"] == 500


def test_more_source_ports_than_sockets(nodes: list[str], own_address: Callable[[], str]) -> None:
    address = own_address()
    with _appliance(address, "--replies", "ports", "--reply-ports", "16") as process:
        result = _send(address, nodes, "--packets", "3000")
        process.communicate("")
    assert result["wrong"] == []
    assert result["answered"] == 3000


Answer = Callable[[bytes, tuple[str, int], socket.socket], None]


def _back(payload: bytes, node: str, local: str, port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as reply:
        reply.bind((local, port))
        reply.sendto(payload, (node, 6081))


def _right(payload: bytes, peer: tuple[str, int], listener: socket.socket) -> None:
    _back(payload, peer[0], listener.getsockname()[0], peer[1])


def _swaps_ports(payload: bytes, peer: tuple[str, int], listener: socket.socket) -> None:
    listener.sendto(payload, peer)


def _answers_from_port_6081(payload: bytes, peer: tuple[str, int], listener: socket.socket) -> None:
    listener.sendto(payload, (peer[0], 6081))


def _forgets_the_attachment(payload: bytes, peer: tuple[str, int], listener: socket.socket) -> None:
    _right(payload[:24] + bytes(8) + payload[32:], peer, listener)


def _decrements_the_ttl(payload: bytes, peer: tuple[str, int], listener: socket.socket) -> None:
    at = 47 if payload[40] >> 4 == 6 else 48
    _right(payload[:at] + bytes([payload[at] - 1]) + payload[at + 1 :], peer, listener)


def _cuts_at_2048(payload: bytes, peer: tuple[str, int], listener: socket.socket) -> None:
    _right(payload[:2048], peer, listener)


@pytest.fixture
def serve(own_address: Callable[[], str]) -> Iterator[Callable[[Answer], str]]:
    """Runs an appliance of one function in a thread; gives its address."""
    stop = threading.Event()
    running: list[threading.Thread] = []
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def start(answer: Answer) -> str:
        address = own_address()
        listener.bind((address, 6081))
        listener.settimeout(0.05)

        def run() -> None:
            while not stop.is_set():
                try:
                    payload, peer = listener.recvfrom(65536)
                except TimeoutError:
                    continue
                answer(payload, peer, listener)

        running.append(threading.Thread(target=run))
        running[0].start()
        return address

    yield start
    stop.set()
    for thread in running:
        thread.join()
    listener.close()


def test_it_accepts_an_appliance_of_six_lines(
    serve: Callable[[Answer], str], nodes: list[str]
) -> None:
    result = _send(serve(_right), nodes, "--packets", "500", "--flows", "50")
    assert result["wrong"] == []
    assert result["right"]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (_swaps_ports, "packets were not answered"),
        (_answers_from_port_6081, "nothing was sent from that port"),
        (_forgets_the_attachment, "(GENEVE header) is 0x00"),
        (_decrements_the_ttl, "(inner packet)"),
        (_cuts_at_2048, "2048 bytes, sent were"),
    ],
)
def test_it_has_teeth(
    fault: Answer, told: str, serve: Callable[[Answer], str], nodes: list[str]
) -> None:
    result = _send(serve(fault), nodes, "--packets", "500", "--flows", "50", "--patience", "1.5")
    assert not result["right"]
    assert any(told in wrong for wrong in result["wrong"]), result["wrong"]
