"""What the tests of the data plane share: addresses of their own, an engine that does as told."""

from __future__ import annotations

import itertools
import math
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

_numbers = itertools.count(1)


class ScriptedEngine:
    """Has the engine's shape; `decide` says what becomes of each datagram."""

    def __init__(self, decide: Callable[[bytes], int] | None = None) -> None:
        self.decide = decide or (lambda payload: 0)
        self.outbox: list[tuple[bytes, bytes, bytes]] = []
        self.drops: Counter[str] = Counter()
        self.seen: list[tuple[bytes, bytes, bytes, float]] = []
        self.advanced: list[float] = []
        self.deadline = math.inf

    def receive(
        self, buffer: memoryview, start: int, end: int, peer: bytes, local: bytes, now: float
    ) -> int:
        payload = bytes(buffer[start:end])
        self.seen.append((payload, peer, local, now))
        return self.decide(payload)

    def advance(self, now: float) -> None:
        self.advanced.append(now)

    def next_deadline(self) -> float:
        return self.deadline

    @property
    def payloads(self) -> list[bytes]:
        return [payload for payload, *_ in self.seen]


class Node:
    """One GWLB node on loopback: sends from any port, hears on 6081."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._sockets: dict[int, socket.socket] = {}
        self.hears = self._socket(6081)
        self.hears.settimeout(5)

    def _socket(self, port: int) -> socket.socket:
        if port not in self._sockets:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._sockets[port] = sock
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            sock.bind((self.address, port))
        return self._sockets[port]

    def send(self, port: int, payload: bytes, target: tuple[str, int]) -> None:
        self._socket(port).sendto(payload, target)

    def answer(self) -> tuple[bytes, tuple[str, int]]:
        return self.hears.recvfrom(65536)

    def answers(self) -> list[tuple[bytes, tuple[str, int]]]:
        """What is there now: loopback delivers before the sender's call returns."""
        self.hears.setblocking(False)
        found = []
        try:
            while True:
                found.append(self.hears.recvfrom(65536))
        except BlockingIOError:
            return found
        finally:
            self.hears.settimeout(5)

    def close(self) -> None:
        for sock in self._sockets.values():
            sock.close()


def raw_permitted() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW).close()
    except PermissionError:
        return False
    return True


@pytest.fixture
def own_address() -> Callable[[], str]:
    """Addresses of 127/8 that no other test and no other run of the tests uses."""

    def take() -> str:
        process, number = os.getpid() % 15000, next(_numbers)
        return f"127.{100 + process // 150}.{1 + process % 150}.{1 + number % 250}"

    return take


@pytest.fixture
def node(own_address: Callable[[], str]) -> Iterator[Node]:
    made = Node(own_address())
    yield made
    made.close()


@pytest.fixture
def second_node(own_address: Callable[[], str]) -> Iterator[Node]:
    made = Node(own_address())
    yield made
    made.close()


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture(params=["raw", "ports"])
def raw(request: pytest.FixtureRequest) -> bool:
    """Once with raw sockets, where they are permitted, once without."""
    if request.param == "raw" and not raw_permitted():
        pytest.skip("raw sockets want CAP_NET_RAW")
    return bool(request.param == "raw")
