"""The right appliance: GENEVE in, the same packet out, and a table of flows; wrong in nothing.

It passes every case of the transport and flow profiles. A mutant is this class, or one that adds to
it, with one method written as somebody once wrote it.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from appliance_sdk.conformance.case import Profile
from appliance_sdk.conformance.compare import Reply
from appliance_sdk.conformance.features import Features
from mutants.headers import Header, Unsound
from mutants.packets import ACK, RST, SYN, TCP, Packet, ReadsPackets

GENEVE_PORT = 6081


@dataclass
class Outer:
    """Where a datagram came from and went to."""

    node: str
    port: int
    address: str


Key = tuple[Any, ...]


@dataclass
class Flow:
    """What is known of a flow."""

    header: bytes
    """Of its first packet."""
    outer: Outer
    """Of its first packet."""
    last: float
    """When it was heard of last, in seconds."""
    reset: bool = False
    """A RST has been forwarded."""
    packets: int = 0
    notes: dict[Any, Any] = field(default_factory=dict)
    """Nothing, in the right appliance."""


class Right(ReadsPackets):
    """Forwards what is sound, in its own encapsulation; segments of a reset connection are not."""

    idle_tcp_s = 400.0
    """GWLB forgets after 350 s; who forgets earlier meets connections in their middle."""
    idle_s = 150.0
    """GWLB forgets after 120 s."""
    most_flows = 20_000
    origins = "10.9.0."
    """How the addresses of the load balancer's nodes begin."""
    profiles: ClassVar[tuple[Profile, ...]] = (Profile.TRANSPORT, Profile.FLOW)
    """What it is right in, and is asked."""
    features = Features(every_source_port=True, every_address=True, origins=True)

    def __init__(self, emit: Callable[..., None] = lambda _: None, now: float = 0.0) -> None:
        self.flows: dict[Key, Flow] = {}
        self.pieces: dict[Key, list[tuple[int, bytes]]] = {}

    # What the suite's memory wire calls.

    def deliver(self, payload: bytes, peer: bytes, local: bytes, now: float) -> list[Reply]:
        """A datagram arrives."""
        outer = Outer(
            socket.inet_ntoa(peer[2:6]), int.from_bytes(peer[:2], "big"), socket.inet_ntoa(local)
        )
        return self.receive(payload, outer, now)

    def advance(self, now: float) -> list[Reply]:
        """Time passes."""
        return []

    def next_deadline(self) -> float:
        """Nothing is ever due."""
        return math.inf

    # A datagram's way.

    def receive(self, datagram: bytes, outer: Outer, now: float) -> list[Reply]:
        """From the datagram to what is sent for it."""
        if not self.trusts(outer.node):
            return []
        try:
            header = self.header(datagram)
            packet = self.packet(header.protocol, datagram[len(header.raw) :])
        except Unsound:
            return []
        return self.judge(packet, header, outer, now)

    def trusts(self, node: str) -> bool:
        """AWS guide: only the load balancer's subnets reach UDP 6081."""
        return node.startswith(self.origins)

    def judge(self, packet: Packet, header: Header, outer: Outer, now: float) -> list[Reply]:
        """Forward it or not."""
        if packet.piece is not None and not self.fits_in(packet, header):
            return []
        flow = self.flow(packet, header, outer, now)
        if not self.forwards(flow, packet, header, now):
            return []
        return self.replies(flow, packet, header, outer)

    def fits_in(self, packet: Packet, header: Header) -> bool:
        """RFC 1858, RFC 5722: what overlaps another fragment with other bytes is dropped."""
        piece = packet.piece
        assert piece is not None
        identity = piece.identification, packet.protocol
        key = header.endpoint, packet.source, packet.destination, *identity
        pieces = self.pieces.setdefault(key, [])
        start, end = piece.offset, piece.offset + len(packet.body)
        for other, body in pieces:
            if start < other + len(body) and other < end and (other, body) != (start, packet.body):
                return False
        if len(pieces) < 64:
            pieces.append((start, packet.body))
        while len(self.pieces) > 256:
            del self.pieces[next(iter(self.pieces))]
        return True

    # Flows.

    def key(self, packet: Packet, header: Header) -> Key:
        """Both directions have one key; ranges behind two endpoints may be the same."""
        ends = sorted(zip((packet.source, packet.destination), packet.ports, strict=True))
        return header.endpoint, packet.protocol, *ends

    def flow(self, packet: Packet, header: Header, outer: Outer, now: float) -> Flow:
        """The packet's flow; a SYN opens a new one, whatever was there before."""
        key = self.key(packet, header)
        flow = self.flows.get(key)
        if flow is None or self.is_over(flow, packet, now) or self.opens(packet, flow):
            flow = self.opened(key, Flow(header.raw, outer, now))
        flow.last = now
        flow.packets += 1
        return flow

    def is_over(self, flow: Flow, packet: Packet, now: float) -> bool:
        """GWLB has forgotten it as well."""
        limit = self.idle_tcp_s if packet.protocol == TCP else self.idle_s
        return now - flow.last > limit

    def opens(self, packet: Packet, flow: Flow) -> bool:
        """RFC 9293 §3.5: SYN without ACK."""
        return packet.protocol == TCP and packet.flags & (SYN | ACK | RST) == SYN

    def opened(self, key: Key, flow: Flow) -> Flow:
        """Remember a flow; the oldest makes room."""
        self.flows.pop(key, None)
        while len(self.flows) >= self.most_flows:
            del self.flows[next(iter(self.flows))]
        self.flows[key] = flow
        return flow

    def forwards(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        """Everything but what follows a RST."""
        if flow.reset:
            return False
        if packet.protocol == TCP and packet.flags & RST:
            flow.reset = True
        return True

    # What is sent.

    def replies(self, flow: Flow, packet: Packet, header: Header, outer: Outer) -> list[Reply]:
        """AWS blog: addresses swapped, ports as they were, header and packet as they came."""
        payload = self.reply_header(flow, header) + self.reply_packet(packet)
        return [Reply(self.reply_source(flow, outer), self.reply_to(flow, outer), payload)]

    def reply_header(self, flow: Flow, header: Header) -> bytes:
        """The packet's own."""
        return header.raw

    def reply_packet(self, packet: Packet) -> bytes:
        """As it came."""
        return packet.raw

    def reply_source(self, flow: Flow, outer: Outer) -> tuple[str, int]:
        """The address that was asked, and the port that GWLB sent from."""
        return outer.address, outer.port

    def reply_to(self, flow: Flow, outer: Outer) -> tuple[str, int]:
        """The node that sent it, port 6081."""
        return outer.node, GENEVE_PORT
