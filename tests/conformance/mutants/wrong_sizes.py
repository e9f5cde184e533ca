"""Mutants for which packets are too large, or come in pieces."""

from __future__ import annotations

from appliance_sdk.conformance.compare import Reply
from mutants.headers import Header
from mutants.mutant import mutant
from mutants.packets import Packet
from mutants.right import Flow, Key, Outer, Right


class SmallBuffer(Right):
    """Receives into a buffer, and what does not fit is lost."""

    buffer = 65535

    def receive(self, datagram: bytes, outer: Outer, now: float) -> list[Reply]:
        return super().receive(datagram[: self.buffer], outer, now)


@mutant(
    "size/1500",
    "size/8500",
    "size/8500-ipv6",
    "size/8500-largest-header",
    "fragment/in-order",
    "fragment/in-order-ipv6",
)
class BufferOf1500(SmallBuffer):
    """Has a receive buffer of 1,500 bytes."""

    buffer = 1500


@mutant("size/8500", "size/8500-ipv6", "size/8500-largest-header")
class BufferOf2048(SmallBuffer):
    """Has a receive buffer of 2,048 bytes."""

    buffer = 2048


@mutant("size/8500-largest-header")
class BufferOf8568(SmallBuffer):
    """Has a receive buffer of 8,568 bytes: what GWLB sends today, to the byte."""

    buffer = 8568 - 28


@mutant("size/8500-ipv6")
class CountsIpv4Headers(Right):
    """Leaves room for an IPv4 header where an IPv6 header is."""

    def has_header(self, here: int, size: int) -> bool:
        return here <= 8520 - size and super().has_header(here, size)


@mutant("size/over-8500")
class CutsTo8500(Right):
    """Cuts packets that are too large."""

    def takes_size(self, size: int) -> bool:
        return True

    def reply_packet(self, packet: Packet) -> bytes:
        return packet.raw[:8500]


@mutant("size/over-8500-not-returned")
class NoLimit(Right):
    """Returns packets that are larger than GWLB takes."""

    def takes_size(self, size: int) -> bool:
        return True


@mutant("fragment/in-order", "fragment/in-order-ipv6")
class NoFragments(Right):
    """Drops fragments."""

    def fits_in(self, packet: Packet, header: Header) -> bool:
        return False


@mutant("fragment/in-order", "fragment/in-order-ipv6", "fragment/out-of-order")
class Reassembles(Right):
    """Puts packets together, and forwards them whole."""

    def __init__(self, *arguments: object) -> None:
        super().__init__()
        self.kept: dict[int, dict[int, Packet]] = {}

    def replies(self, flow: Flow, packet: Packet, header: Header, outer: Outer) -> list[Reply]:
        if packet.piece is None:
            return super().replies(flow, packet, header, outer)
        pieces = self.kept.setdefault(packet.piece.identification, {})
        pieces[packet.piece.offset] = packet
        whole = b""
        for at in sorted(pieces):
            whole += pieces[at].body if at == len(whole) else b""
        last = pieces[max(pieces)]
        if last.piece is None or last.piece.more or len(whole) < max(pieces):
            return []
        raw = packet.raw[: len(packet.raw) - len(packet.body)] + whole
        return super().replies(flow, packet._replace(raw=raw), header, outer)


@mutant("fragment/without-first")
class WaitsForFirstFragments(Right):
    """Keeps fragments until the first of their packet comes, and takes nothing when it is full."""

    def __init__(self, *arguments: object) -> None:
        super().__init__()
        self.waiting = 0
        self.seen: set[Key] = set()

    def receive(self, datagram: bytes, outer: Outer, now: float) -> list[Reply]:
        return [] if self.waiting > 500 else super().receive(datagram, outer, now)

    def fits_in(self, packet: Packet, header: Header) -> bool:
        assert packet.piece is not None
        key = packet.source, packet.destination, packet.piece.identification
        if packet.piece.offset == 0:
            self.seen.add(key)
        elif key not in self.seen:
            self.waiting += 1
        return super().fits_in(packet, header)


@mutant("fragment/overlapping")
class LastBytesCount(Right):
    """Does not look whether fragments overlap."""

    def fits_in(self, packet: Packet, header: Header) -> bool:
        return True


@mutant("fragment/tiny-first")
class TakesTinyFragments(Right):
    """Forwards first fragments that are too short for a TCP header."""

    def takes_piece(self, packet: Packet) -> bool:
        return True
