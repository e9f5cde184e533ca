"""Mutants that lose track of flows: too strict about TCP, or that remember too little or much."""

from __future__ import annotations

from appliance_sdk.conformance.compare import Reply
from mutants.headers import Header
from mutants.mutant import mutant
from mutants.packets import ACK, FIN, RST, SYN, TCP, Packet
from mutants.right import Flow, Key, Outer, Right

_MASK = 0xFFFFFFFF


def taken(packet: Packet) -> int:
    """How much of the sequence a segment takes."""
    return len(packet.data) + bool(packet.flags & SYN) + bool(packet.flags & FIN)


@mutant(
    "reply/newest-cookie",
    "flow/connection",
    "flow/connection-ipv6",
    "flow/half-closed",
    "flow/last-ack",
    "flow/midstream",
    "flow/reuse-after-close",
)
class EndsAtTheFirstFin(Right):
    """Forgets a connection at its first FIN, and drops what comes behind."""

    def forwards(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        over = flow.notes.get("over", False)
        flow.notes["over"] = over or bool(packet.flags & FIN)
        return not over and super().forwards(flow, packet, header, now)


@mutant("flow/last-ack")
class EndsAtTheLastAck(Right):
    """Forgets a connection with the ACK behind both FINs: a FIN that is sent again is dropped."""

    def forwards(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        ends = flow.notes.setdefault("ends", set())
        over = flow.notes.get("over", False)
        if packet.flags & FIN:
            ends.add(packet.source)
        elif len(ends) == 2 and packet.flags & ACK:
            flow.notes["over"] = True
        return not over and super().forwards(flow, packet, header, now)


@mutant(
    "tuple/two-endpoints",
    "flow/reset",
    "flow/refused-by-server",
    "flow/reuse-after-reset",
    "flow/reuse-without-close",
)
class KeepsResets(Right):
    """Notes a RST and does not pass it on."""

    def forwards(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        return super().forwards(flow, packet, header, now) and not packet.flags & RST


@mutant(
    "reply/newest-cookie",
    "flow/refused-by-server",
    "flow/reuse-after-reset",
    "flow/reuse-after-close",
    "flow/reuse-without-close",
)
class ClosedForGood(Right):
    """Does not open a connection on the ports of one that has ended, until it has been idle."""

    def opens(self, packet: Packet, flow: Flow) -> bool:
        return False

    def forwards(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        over = flow.notes.get("over", False) and packet.flags & SYN
        flow.notes["over"] = flow.notes.get("over", False) or bool(packet.flags & FIN)
        return not over and super().forwards(flow, packet, header, now)


@mutant("flow/reuse-without-close", "flow/idle-then-syn")
class NoSecondSyn(Right):
    """Drops a SYN with another sequence number on a connection that has not ended."""

    def opens(self, packet: Packet, flow: Flow) -> bool:
        before = flow.notes.get("syn")
        other = before is not None and before != packet.sequence
        ended = flow.reset or flow.notes.get("fins", 0) > 1
        return super().opens(packet, flow) and (not other or ended)

    def forwards(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        flow.notes["fins"] = flow.notes.get("fins", 0) + bool(packet.flags & FIN)
        first = packet.flags & (SYN | ACK) == SYN
        if first and flow.notes.setdefault("syn", packet.sequence) != packet.sequence:
            return False
        return super().forwards(flow, packet, header, now)


@mutant(
    "geneve/critical-flag-without-option",
    "geneve/unknown-option-first",
    "gwlb/option-order",
    "reply/same-packet-again",
    "flow/retransmissions",
)
class OneSyn(Right):
    """Drops a SYN that it has seen already."""

    def forwards(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        again = flow.notes.get("syn") == packet.sequence and packet.flags & (SYN | ACK) == SYN
        if packet.flags & SYN:
            flow.notes["syn"] = packet.sequence
        return not again and super().forwards(flow, packet, header, now)

    def opens(self, packet: Packet, flow: Flow) -> bool:
        again = flow.notes.get("syn") == packet.sequence and not flow.reset
        return not again and super().opens(packet, flow)


class Sequenced(Right):
    """Keeps the next sequence number of each end."""

    def forwards(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        if packet.protocol != TCP or packet.flags & RST:
            return super().forwards(flow, packet, header, now)
        known = flow.notes.get(packet.source)
        if known is not None and not packet.flags & SYN and not self.in_order(packet, known):
            return False
        following = packet.sequence + taken(packet) & _MASK
        newer = known is None or packet.flags & SYN or 0 < following - known & _MASK < 1 << 31
        flow.notes[packet.source] = following if newer else known
        return super().forwards(flow, packet, header, now)

    def in_order(self, packet: Packet, following: int) -> bool:
        """Whether a segment may come now."""
        return True


@mutant("flow/out-of-order")
class InOrderOnly(Sequenced):
    """Drops a segment that comes before the one in front of it."""

    def in_order(self, packet: Packet, following: int) -> bool:
        ahead = packet.sequence - following & _MASK
        return not 0 < ahead < 1 << 31


@mutant("flow/keep-alive", "flow/out-of-order")
class NothingOld(Sequenced):
    """Drops what says nothing new: segments that end before what has been seen."""

    def in_order(self, packet: Packet, following: int) -> bool:
        behind = following - (packet.sequence + taken(packet)) & _MASK
        return not 0 < behind < 1 << 31


@mutant("flow/keep-alive", "flow/last-ack")
class NoProbes(Sequenced):
    """Drops segments with an old number and one byte or none, as a sign of an attack."""

    def in_order(self, packet: Packet, following: int) -> bool:
        return packet.sequence != following - 1 & _MASK or len(packet.data) > 1


@mutant("flow/sequence-wrap")
class EndsAreLarger(Sequenced):
    """Drops a segment whose end is not the larger number, as if sequence numbers did not wrap."""

    def in_order(self, packet: Packet, following: int) -> bool:
        return packet.sequence <= packet.sequence + taken(packet) & _MASK


@mutant("flow/damaged", "flow/keep-alive")
class FirstBytesCount(Sequenced):
    """Drops bytes other than the first that it saw in their place, had these a checksum or not."""

    def forwards(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        place = packet.source, packet.sequence
        seen = flow.notes.setdefault(place, packet.data) if packet.data else b""
        return seen == packet.data and super().forwards(flow, packet, header, now)


@mutant("flow/half-closed")
class OnesFinEndsBoth(Right):
    """Drops data to an end that has sent its FIN."""

    def forwards(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        if packet.flags & FIN:
            flow.notes["fin"] = packet.source
        deaf = flow.notes.get("fin") == packet.destination and packet.data
        return not deaf and super().forwards(flow, packet, header, now)


@mutant("flow/midstream")
class SynOrNothing(Right):
    """Drops what belongs to a connection whose SYN it has not seen."""

    def forwards(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        if packet.protocol == TCP and flow.packets == 1 and not packet.flags & SYN:
            del self.flows[self.key(packet, header)]
            return False
        return super().forwards(flow, packet, header, now)


@mutant("flow/midstream-steady", "flow/midstream")
class EverySecondStranger(Right):
    """Lets every second connection in that it meets in its middle, to lose no more than half."""

    turn = False

    def forwards(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        if packet.protocol == TCP and flow.packets == 1 and not packet.flags & SYN:
            self.turn = not self.turn
            flow.notes["out"] = self.turn
        return not flow.notes.get("out") and super().forwards(flow, packet, header, now)


@mutant("flow/one-sided")
class BothSidesOrNothing(Right):
    """Drops data of a connection whose SYN+ACK it has not seen."""

    def forwards(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        if packet.flags & SYN:
            flow.notes["ack" if packet.flags & ACK else "syn"] = True
        half = flow.notes.get("syn") and not flow.notes.get("ack")
        return not (half and packet.data) and super().forwards(flow, packet, header, now)


@mutant("flow/idle-tcp")
class ImpatientWithTcp(Right):
    """Forgets a connection after 300 s without a packet, and then drops what is no SYN."""

    idle_tcp_s = 300.0

    def is_over(self, flow: Flow, packet: Packet, now: float) -> bool:
        flow.notes["late"] = super().is_over(flow, packet, now)
        return False

    def forwards(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        late = flow.notes.get("late") and packet.protocol == TCP
        return not late and super().forwards(flow, packet, header, now)


@mutant("flow/idle-udp", "flow/idle-then-syn", "flow/reset-by-gwlb")
class ExpiredIsBlocked(Right):
    """Marks a flow that was idle for longer than GWLB waits as ended, and never takes it out."""

    idle_tcp_s = 350.0
    idle_s = 120.0

    def is_over(self, flow: Flow, packet: Packet, now: float) -> bool:
        if super().is_over(flow, packet, now):
            flow.notes["ended"] = True
        return False

    def opens(self, packet: Packet, flow: Flow) -> bool:
        return not flow.notes.get("ended") and super().opens(packet, flow)

    def forwards(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        return not flow.notes.get("ended") and super().forwards(flow, packet, header, now)


@mutant("flow/reset-by-gwlb")
class FullTable(Right):
    """Has room for 2,500 flows, and never takes one out that has not ended."""

    most_flows = 2500

    def judge(self, packet: Packet, header: Header, outer: Outer, now: float) -> list[Reply]:
        full = len(self.flows) >= self.most_flows and self.key(packet, header) not in self.flows
        return [] if full else super().judge(packet, header, outer, now)


@mutant("flow/many", "flow/reset-by-gwlb")
class SmallTable(FullTable):
    """Has room for 256 flows, and never takes one out that has not ended."""

    most_flows = 256


@mutant("flow/syn-data")
class SynsCarryNothing(Right):
    """Cuts the data off a SYN."""

    def reply_packet(self, packet: Packet) -> bytes:
        if packet.flags & SYN and packet.data:
            return packet.raw[: -len(packet.data)]
        return packet.raw


@mutant("flow/strange-flags")
class ClearsUrgent(Right):
    """Clears the urgent flag."""

    def reply_packet(self, packet: Packet) -> bytes:
        if not packet.flags & 0x20 or len(packet.source) != 4:
            return packet.raw
        at = self.ihl(packet.raw[0]) + 13
        return packet.raw[:at] + bytes((packet.flags & ~0x20,)) + packet.raw[at + 1 :]


@mutant("inner/ipv6", "flow/connection-ipv6")
class Ipv6HasOneDirection(Right):
    """Takes the answers of an IPv6 connection for another one, which has not begun."""

    def key(self, packet: Packet, header: Header) -> Key:
        if len(packet.source) == 4:
            return super().key(packet, header)
        return header.endpoint, packet.protocol, packet.source, packet.destination, *packet.ports

    def forwards(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        new = len(packet.source) == 16 and packet.protocol == TCP and flow.packets == 1
        unborn = new and packet.flags & (SYN | ACK) != SYN
        return not unborn and super().forwards(flow, packet, header, now)
