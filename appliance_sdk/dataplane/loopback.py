"""GWLB's end of the wire, on loopback: sends a capture to an appliance and matches its answers."""

from __future__ import annotations

import hashlib
import select
import socket
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

from appliance_sdk.dataplane.addresses import open_listeners, set_buffer
from appliance_sdk.dataplane.encapsulate import DEFAULT_ENDPOINT, Capture, Encapsulator
from appliance_sdk.errors import ConfigError, MalformedPacket
from appliance_sdk.wire.capture import Frame
from appliance_sdk.wire.geneve import PORT, parse_geneve
from appliance_sdk.wire.packet import parse_packet

NODES = ("127.77.0.11", "127.77.0.12")
"""Addresses of the pretended GWLB nodes."""
SOURCE_PORTS = 16
"""Per node: few, so that an appliance without privileges can bind them all."""
WINDOW = 48
"""Packets on the way at most: at 9,000 bytes each they fit into any receive buffer of 1 MiB."""
STALL_S = 0.1
"""Silence after which the window opens again: the packets in it were dropped, or wait."""
SETTLE_S = 0.5
"""Silence after the last packet that ends the wait for answers."""

_GRACE_S = 0.05
_BUFFER_BYTES = 4 << 20
_LONGEST = 65507

_Identity: TypeAlias = tuple[int | bytes, ...]


@dataclass(slots=True)
class LoopbackReport:
    """What came back: sent == answered + changed + dropped."""

    packets: int = 0
    """Frames read."""
    sent: int = 0
    answered: int = 0
    """Came back exactly as sent."""
    changed: int = 0
    """Came back with other bytes: the same flow, numbers and identification."""
    injected: int = 0
    """Answers that answer no packet: resets, ICMP errors, replies."""
    misaddressed: int = 0
    """Answers that GWLB would not take: from a wrong address or port, or not GENEVE."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Frames that were not sent, by reason."""
    damage: str = ""
    """What cut the capture short, if something did."""

    @property
    def dropped(self) -> int:
        """Packets that did not come back."""
        return self.sent - self.answered - self.changed


class LoopbackSender:
    """A GWLB node or more. Use it as a context manager.

    Each node's answers come to its port 6081, where GWLB expects them. No more than `window`
    packets are on the way at a time, so that none is lost to a full buffer; the appliance is taken
    to have read what was sent before the packet it answered last.
    """

    def __init__(
        self,
        target: tuple[str, int],
        *,
        nodes: Sequence[str] = NODES,
        source_ports: int = SOURCE_PORTS,
        window: int = WINDOW,
        stall_s: float = STALL_S,
        settle_s: float = SETTLE_S,
        endpoint: str = DEFAULT_ENDPOINT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Bind the nodes' sockets. Raises ConfigError if that cannot be done."""
        self.report = LoopbackReport()
        self._target = target
        self._window, self._stall_s, self._settle_s = window, stall_s, settle_s
        self._clock = clock
        self._encapsulator = Encapsulator(endpoint)
        self._exact: defaultdict[bytes, deque[int]] = defaultdict(deque)
        self._alike: defaultdict[_Identity, deque[int]] = defaultdict(deque)
        self._ports: list[int] = []
        self._done = bytearray()
        self._read = 0
        self._poller = select.poll()
        self._hearing: dict[int, socket.socket] = {}
        self._senders: list[tuple[socket.socket, int]] = []
        with ExitStack() as stack:
            listeners = open_listeners(nodes, PORT, receive_buffer_bytes=_BUFFER_BYTES)
            for listener in listeners:
                self._hear(stack.enter_context(listener))
            for _ in range(source_ports):
                for node in nodes:
                    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                    stack.enter_context(sock)
                    try:
                        sock.bind((node, 0))
                    except OSError as error:
                        raise ConfigError(f"cannot bind a port of {node}: {error}") from error
                    set_buffer(sock, send_bytes=_BUFFER_BYTES)
                    self._senders.append((sock, sock.getsockname()[1]))
                    self._hear(sock)  # where answers with swapped ports end up
            self._stack = stack.pop_all()
        self._nodes = {listener.fileno() for listener in listeners}
        self._source_ports = {port for _sock, port in self._senders}

    def __enter__(self) -> LoopbackSender:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def send(self, frame: Frame) -> None:
        """Send one frame, as soon as the window lets it."""
        report = self.report
        report.packets += 1
        try:
            datagram = self._encapsulator.datagram(frame)
        except MalformedPacket as error:
            report.skipped[error.reason] += 1
            return
        if datagram is None:
            report.skipped["recorded_reply"] += 1
        elif len(datagram.payload) > _LONGEST:
            report.skipped["too_long"] += 1
        else:
            port = int.from_bytes(datagram.peer[:2], "big")
            self._send(datagram.payload, self._senders[port % len(self._senders)])

    def finish(self) -> LoopbackReport:
        """Take answers until all are there or none comes any more."""
        quiet_from = self._clock()
        while self.report.dropped and self._clock() - quiet_from < self._settle_s:
            if self._take(self._settle_s):
                quiet_from = self._clock()
        while self._take(_GRACE_S):
            pass  # what was made for the last packets comes behind them
        return self.report

    def _send(self, payload: bytes, sender: tuple[socket.socket, int]) -> None:
        sock, port = sender
        index = self.report.sent
        self.report.sent += 1
        self._exact[_digest(payload)].append(index)
        identity = _identity(payload)
        if identity is not None:
            self._alike[identity].append(index)
        self._ports.append(port)
        self._done.append(0)
        sock.sendto(payload, self._target)
        self._take(0)
        quiet_from = self._clock()
        while self.report.sent - self._read >= self._window:
            if self._take(self._stall_s):
                quiet_from = self._clock()
            elif self._clock() - quiet_from >= self._stall_s:
                self._read = self.report.sent

    def _hear(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._hearing[sock.fileno()] = sock
        self._poller.register(sock.fileno(), select.POLLIN)

    def _take(self, wait_s: float) -> int:
        """Take what is there, waiting for the first of it: how many answers."""
        count = 0
        for descriptor, _events in self._poller.poll(wait_s * 1000):
            for _ in range(self._window):
                try:
                    answer, source = self._hearing[descriptor].recvfrom(65536)
                except BlockingIOError:
                    break
                count += 1
                self._match(descriptor in self._nodes, answer, source)
        return count

    def _match(self, on_node: bool, answer: bytes, source: tuple[str, int]) -> None:
        report, port = self.report, source[1]
        identity = _identity(answer)
        exact = self._exact.get(_digest(answer))
        addressed = on_node and source[0] == self._target[0] and port in self._source_ports
        if not addressed or (identity is None and not exact):
            report.misaddressed += 1
            return
        index = self._waiting(exact, port)
        if index >= 0:
            report.answered += 1
        elif exact:
            report.misaddressed += 1  # right bytes, from another flow's port
            return
        else:
            alike = self._alike.get(identity) if identity is not None else None
            index = self._waiting(alike, port)
            if index < 0:
                report.injected += 1
                return
            report.changed += 1
        self._done[index] = 1
        self._read = max(self._read, index + 1)

    def _waiting(self, candidates: deque[int] | None, port: int) -> int:
        """The first packet of these that is unanswered and was sent from this port, or -1."""
        while candidates and self._done[candidates[0]]:
            candidates.popleft()
        for index in candidates or ():
            if not self._done[index] and self._ports[index] == port:
                return index
        return -1


def replay_over_udp(
    path: str | Path, target: tuple[str, int], *, nodes: Sequence[str] = NODES
) -> LoopbackReport:
    """Send a capture to an appliance on loopback and report what came back.

    Raises ConfigError if the file is no capture or a node's address cannot be bound.
    """
    capture = Capture(path)
    with LoopbackSender(target, nodes=nodes) as sender:
        for frame in capture:
            sender.send(frame)
        report = sender.finish()
    report.damage = capture.damage
    return report


def _digest(payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=16).digest()


def _identity(payload: bytes) -> _Identity | None:
    """What an edit of a packet leaves as it was; None if the datagram cannot be read."""
    try:
        geneve = parse_geneve(payload, 0, len(payload))
        headers = parse_packet(payload, geneve.length, len(payload))
    except MalformedPacket:
        return None
    return (
        geneve.endpoint_id,
        geneve.cookie,
        headers.protocol,
        headers.source,
        headers.destination,
        headers.source_port,
        headers.destination_port,
        headers.fragment_id,
        headers.fragment_offset,
        headers.seq,
        headers.flags,
        headers.icmp_type,
    )
