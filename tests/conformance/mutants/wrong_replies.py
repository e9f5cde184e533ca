"""Mutants that read well and answer wrong: another header, another port, another node, too late."""

from __future__ import annotations

import math

from appliance_sdk.conformance.compare import Reply
from mutants.headers import Header
from mutants.mutant import mutant
from mutants.packets import ICMP, Packet
from mutants.right import GENEVE_PORT, Flow, Key, Outer, Right


@mutant(
    "geneve/unknown-option-first",
    "gwlb/option-order",
    "reply/newest-cookie",
    "reply/own-cookie",
    "flow/reuse-after-close",
    "flow/reuse-after-reset",
    "flow/reuse-without-close",
    "flow/idle-udp",
    "flow/idle-then-syn",
    origin="gwlbtun before pull request 15",
)
class FirstHeader(Right):
    """Answers with the first header that it saw for a 5-tuple."""

    def opened(self, key: Key, flow: Flow) -> Flow:
        before = self.flows.get(key)
        if before is not None:
            flow.header = before.header
        return super().opened(key, flow)

    def reply_header(self, flow: Flow, header: Header) -> bytes:
        return flow.header


@mutant("reply/own-cookie", origin="gwlbtun")
class HeaderAfterVerdict(Right):
    """Decides in another thread, and then answers with the newest header of the 5-tuple."""

    verdict_s = 0.01

    def __init__(self, *arguments: object) -> None:
        super().__init__()
        self.newest: dict[Key, bytes] = {}
        self.waiting: list[tuple[float, Key, Packet, Flow, Outer, Header]] = []

    def replies(self, flow: Flow, packet: Packet, header: Header, outer: Outer) -> list[Reply]:
        key = self.key(packet, header)
        self.newest[key] = header.raw
        self.waiting.append((flow.last + self.verdict_s, key, packet, flow, outer, header))
        return []

    def next_deadline(self) -> float:
        return self.waiting[0][0] if self.waiting else math.inf

    def advance(self, now: float) -> list[Reply]:
        replies = []
        while self.waiting and self.waiting[0][0] <= now:
            _, key, packet, flow, outer, header = self.waiting.pop(0)
            newest = header._replace(raw=self.newest[key])
            replies += super().replies(flow, packet, newest, outer)
        return replies


@mutant("reply/own-cookie", "flow/idle-udp")
class DistrustsNewCookies(Right):
    """Takes a cookie that is not the flow's first for a forgery."""

    def forwards(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        return header.raw == flow.header and super().forwards(flow, packet, header, now)


@mutant(
    "reply/header-unchanged",
    "gwlb/endpoint-replaced",
    "gwlb/every-endpoint",
    "geneve/options-in-packet",
    "tuple/two-endpoints",
    "tuple/same-cookie",
    "robust/damaged-datagrams",
)
class OneEndpoint(Right):
    """Writes the first endpoint that it ever saw in every reply."""

    first = b""

    def reply_header(self, flow: Flow, header: Header) -> bytes:
        at = header.raw.find(b"\x01\x08\x01\x02", 8) + 4
        self.first = self.first or header.raw[at : at + 8]
        return header.raw[:at] + self.first + header.raw[at + 8 :]


@mutant("tuple/same-cookie", origin="flowdog")
class CookieIsTheFlow(Right):
    """Knows flows by their cookie alone, and answers with the flow's first header."""

    def key(self, packet: Packet, header: Header) -> Key:
        return (header.cookie,)

    def reply_header(self, flow: Flow, header: Header) -> bytes:
        return flow.header


@mutant(
    "reply/shared-port",
    "reply/two-nodes",
    "reply/newest-port",
    "reply/own-cookie",
    "gwlb/endpoint-replaced",
    "tuple/two-endpoints",
    "tuple/other-protocols",
    "robust/damaged-datagrams",
    "reply/addresses-and-ports",
    "flow/many",
    "flow/idle-udp",
)
class PortIsTheFlow(Right):
    """Knows flows by the UDP port that GWLB sends from, and answers with the first header."""

    def flow(self, packet: Packet, header: Header, outer: Outer, now: float) -> Flow:
        self.port = outer.port
        return super().flow(packet, header, outer, now)

    def key(self, packet: Packet, header: Header) -> Key:
        return (self.port,)

    def reply_header(self, flow: Flow, header: Header) -> bytes:
        return flow.header


@mutant(
    "reply/addresses-and-ports",
    "tuple/many-endpoints",
    "robust/damaged-datagrams",
    "flow/many",
    "flow/reset-by-gwlb",
)
class SixteenReplyPorts(Right):
    """Has sockets for sixteen reply ports, and answers all others from its own, 6081."""

    def __init__(self, *arguments: object) -> None:
        super().__init__()
        self.bound: set[int] = set()

    def reply_source(self, flow: Flow, outer: Outer) -> tuple[str, int]:
        if len(self.bound) < 16:
            self.bound.add(outer.port)
        return outer.address, outer.port if outer.port in self.bound else GENEVE_PORT


@mutant("reply/once", "inner/ping")
class PingsTwice(Right):
    """Returns echo requests twice: once it has counted them, and as what they are, packets."""

    def replies(self, flow: Flow, packet: Packet, header: Header, outer: Outer) -> list[Reply]:
        replies = super().replies(flow, packet, header, outer)
        request = packet.protocol == ICMP and packet.body[:1] == b"\x08"
        return replies * 2 if request else replies


@mutant(
    "geneve/critical-flag-without-option",
    "geneve/unknown-option-first",
    "gwlb/option-order",
    "reply/same-packet-again",
    "gwlb/every-endpoint",
    "tuple/icmp-error",
    "flow/retransmissions",
)
class DropsRepetitions(Right):
    """Drops a packet that is equal to the one before, of the same flow, as a replay."""

    def __init__(self, *arguments: object) -> None:
        super().__init__()
        self.before: dict[Key, bytes] = {}

    def judge(self, packet: Packet, header: Header, outer: Outer, now: float) -> list[Reply]:
        key = self.key(packet, header)
        before, self.before[key] = self.before.get(key), packet.raw
        return [] if before == packet.raw else super().judge(packet, header, outer, now)


@mutant("reply/asked-address")
class PrimaryAddress(Right):
    """Answers from its first address, whichever was asked."""

    def reply_source(self, flow: Flow, outer: Outer) -> tuple[str, int]:
        return "10.9.1.21", outer.port


@mutant("reply/two-nodes", "reply/newest-node", origin="flowdog")
class SocketOfTheFirstNode(Right):
    """Keeps one socket for each port, connected to the first node that used the port."""

    def __init__(self, *arguments: object) -> None:
        super().__init__()
        self.connected: dict[int, str] = {}

    def reply_to(self, flow: Flow, outer: Outer) -> tuple[str, int]:
        return self.connected.setdefault(outer.port, outer.node), GENEVE_PORT


@mutant("reply/newest-node")
class FlowsNodeIsForLife(Right):
    """Answers to the node that a flow's first packet came from."""

    def reply_to(self, flow: Flow, outer: Outer) -> tuple[str, int]:
        return flow.outer.node, GENEVE_PORT


@mutant("reply/newest-port")
class FlowsPortIsForLife(Right):
    """Answers from the port that a flow's first packet came from."""

    def reply_source(self, flow: Flow, outer: Outer) -> tuple[str, int]:
        return outer.address, flow.outer.port


@mutant("reply/any-port")
class NoPrivilegedPorts(Right):
    """Cannot answer from ports below 1024."""

    def replies(self, flow: Flow, packet: Packet, header: Header, outer: Outer) -> list[Reply]:
        return super().replies(flow, packet, header, outer) if outer.port >= 1024 else []


@mutant("reply/any-port", "reply/port-6081")
class ItsOwnPortIsTaken(Right):
    """Cannot answer from 6081: its listener has the port."""

    def replies(self, flow: Flow, packet: Packet, header: Header, outer: Outer) -> list[Reply]:
        return super().replies(flow, packet, header, outer) if outer.port != GENEVE_PORT else []


@mutant("reply/order")
class TwoWorkersTakeTurns(Right):
    """Deals packets to two workers in turn, of which one is slower."""

    slower_s = 0.001
    turn = False

    def __init__(self, *arguments: object) -> None:
        super().__init__()
        self.working: list[tuple[float, Reply]] = []

    def replies(self, flow: Flow, packet: Packet, header: Header, outer: Outer) -> list[Reply]:
        replies = super().replies(flow, packet, header, outer)
        self.turn = not self.turn
        if self.turn:
            return replies
        self.working += [(flow.last + self.slower_s, reply) for reply in replies]
        return []

    def next_deadline(self) -> float:
        return self.working[0][0] if self.working else math.inf

    def advance(self, now: float) -> list[Reply]:
        done = [reply for due, reply in self.working if due <= now]
        self.working = [one for one in self.working if one[0] > now]
        return done


@mutant("flow/stuck", "fragment/without-first", origin="flowdog")
class WaitsForTheSlowest(Right):
    """Queues packets by flow, and stops receiving while one queue is full."""

    room = 500
    stuck = False

    def receive(self, datagram: bytes, outer: Outer, now: float) -> list[Reply]:
        return [] if self.stuck else super().receive(datagram, outer, now)

    def forwards(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        self.stuck = flow.packets > self.room
        return super().forwards(flow, packet, header, now)
