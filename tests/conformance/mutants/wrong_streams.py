"""Mutant IDSs that put streams together wrongly, or stop too little or too much."""

from __future__ import annotations

from typing import Any

from mutants import refusals
from mutants.headers import Header
from mutants.mutant import mutant
from mutants.packets import RST, SYN, TCP, UDP, Packet
from mutants.right import Flow
from mutants.right_ids import RightIds, Signature
from mutants.streams import Stream

NOTHING: tuple[bytes, int] = (b"", 0)


# Streams.


@mutant(
    "ids/drop-out-of-order",
    "ids/drop-overlapping",
    "ids/drop-split",
    "ids/long-stream",
    "ids/many-streams",
    "ids/one-sided",
    "ids/out-of-order",
    "ids/overlapping",
    "ids/sequence-wrap",
    "ids/split",
    "ids/split-bytes",
    "ids/syn-data",
)
class PacketByPacket(RightIds):
    """Looks at each segment by itself."""

    def stream(self, flow: Flow, packet: Packet, to_server: bool) -> tuple[bytes, int] | None:
        return packet.data, 0


@mutant("ids/out-of-order", "ids/drop-out-of-order", "ids/drop-overlapping")
class EarlySegmentsUnread(RightIds):
    """Forwards segments unread that come before the one in front of them."""

    def is_inside(self, stream: Stream, place: int, data: bytes) -> bool:
        return place <= len(stream.whole)


@mutant(
    "ids/drop-out-of-order",
    "ids/drop-split",
    "ids/one-sided",
    "ids/out-of-order",
    "ids/overlapping",
    "ids/sequence-wrap",
    "ids/split",
    "ids/split-bytes",
)
class ForgetsWhatWas(RightIds):
    """Keeps eight bytes of what came before."""

    def stream(self, flow: Flow, packet: Packet, to_server: bool) -> tuple[bytes, int] | None:
        found = super().stream(flow, packet, to_server)
        if not found:
            return found
        whole, new = found
        begin = max(new - 8, 0)
        return whole[begin:], new - begin


@mutant("ids/retransmitted")
class ReadsAgain(RightIds):
    """Looks at retransmissions as if they were new."""

    def stream(self, flow: Flow, packet: Packet, to_server: bool) -> tuple[bytes, int] | None:
        found = super().stream(flow, packet, to_server)
        if found and packet.data and len(found[0]) == found[1]:
            flow.notes["seen"] = set()
            return packet.data, 0
        return found


@mutant("ids/overlapping")
class AppendsWhatOverlaps(RightIds):
    """Appends a segment that overlaps the one before, whole."""

    def stream(self, flow: Flow, packet: Packet, to_server: bool) -> tuple[bytes, int] | None:
        found = super().stream(flow, packet, to_server)
        if not found or not packet.data:
            return found
        said = flow.notes.setdefault(("said", to_server), bytearray())
        before = len(said)
        new = found[0][found[1] :]
        said += packet.data if 0 < len(new) < len(packet.data) else new
        return bytes(said), before


@mutant("ids/long-stream")
class SixtyFourKilobytes(RightIds):
    """Looks at the first 64 kilobytes of a stream."""

    def stream(self, flow: Flow, packet: Packet, to_server: bool) -> tuple[bytes, int] | None:
        found = super().stream(flow, packet, to_server)
        return NOTHING if found and found[1] > 1 << 16 else found


@mutant("ids/many-streams")
class FiftyStreams(RightIds):
    """Puts fifty streams together, and forwards others unread."""

    def stream(self, flow: Flow, packet: Packet, to_server: bool) -> tuple[bytes, int] | None:
        if flow.notes["id"] % 100 > 50 and flow.notes["id"] > 50:
            return NOTHING
        return super().stream(flow, packet, to_server)


class Unwrapped(Stream):
    """Sequence numbers that do not wrap."""

    def place(self, sequence: int) -> int:
        return sequence - self.start


@mutant("ids/sequence-wrap")
class NumbersDoNotWrap(RightIds):
    """Takes sequence numbers for numbers."""

    def stream(self, flow: Flow, packet: Packet, to_server: bool) -> tuple[bytes, int] | None:
        flow.notes.setdefault(to_server, Unwrapped(packet.sequence + bool(packet.flags & SYN)))
        return super().stream(flow, packet, to_server)


@mutant("ids/damaged-segment")
class DamagedCounts(RightIds):
    """Takes segments with a wrong checksum for part of the stream."""

    def is_sound(self, packet: Packet) -> bool:
        return True


@mutant("ids/old-sequence")
class EveryNumberCounts(RightIds):
    """Moves a stream to whatever number comes, however far away."""

    def is_inside(self, stream: Stream, place: int, data: bytes) -> bool:
        if not super().is_inside(stream, place, data):
            stream.start = stream.start + place & 0xFFFFFFFF
            stream.whole.clear()
            stream.ahead.clear()
            return False
        return True


@mutant("ids/decoys", "ids/drop-overlapping")
class FirstBytesWin(RightIds):
    """Reads the first of two segments that differ, and forwards both."""

    def may_replace(self, stream: Stream, place: int, data: bytes) -> bool:
        return True


@mutant("ids/syn-data")
class SynsAreEmpty(RightIds):
    """Does not look at the data of a SYN."""

    def stream(self, flow: Flow, packet: Packet, to_server: bool) -> tuple[bytes, int] | None:
        if packet.flags & SYN:
            return super().stream(flow, packet._replace(data=b""), to_server)
        return super().stream(flow, packet, to_server)


@mutant("ids/one-sided")
class WantsBothSides(RightIds):
    """Does not look at a connection before it has seen the server's answer."""

    def stream(self, flow: Flow, packet: Packet, to_server: bool) -> tuple[bytes, int] | None:
        if not to_server:
            flow.notes["answered"] = True
        if packet.flags & SYN or flow.notes.get("answered"):
            return super().stream(flow, packet, to_server)
        return NOTHING


# Stopping.


@mutant("ids/forwards", "ids/alert-to-client", "ids/split-bytes")
class AnswersStop(RightIds):
    """Stops what servers answer, where it should only report it."""

    signatures = [
        {**one, "action": "drop"} if one["direction"] == "to_client" else one
        for one in RightIds.signatures
    ]


@mutant(
    "ids/decoys",
    "ids/drop",
    "ids/drop-blocked",
    "ids/drop-fragments",
    "ids/drop-ipv6",
    "ids/drop-others",
    "ids/drop-out-of-order",
    "ids/drop-overlapping",
    "ids/drop-reported",
    "ids/drop-rest",
    "ids/drop-split",
    "ids/drop-udp",
    "ids/reject",
    "ids/reject-both",
    origin="suricata",
)
class VerdictStaysInside(RightIds):
    """Decides on the packet inside; the datagram around it goes its way."""

    def inspected(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        super().inspected(flow, packet, header, now)
        flow.notes.pop("stopped", None)
        return True


@mutant("ids/drop-rest")
class StopsThePacket(RightIds):
    """Stops the packet in which it found something, and not the rest of the flow."""

    def inspected(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        passes = super().inspected(flow, packet, header, now)
        bad = flow.notes.setdefault("bad", set())
        if not passes and flow.notes.get("stopped") == "drop":
            bad.add(packet.body)
            del flow.notes["stopped"]
        return passes and packet.body not in bad


@mutant("ids/drop", "ids/drop-out-of-order", "ids/drop-rest", "ids/drop-udp")
class StopsOnce(RightIds):
    """Stops a segment once: sent again it has been reported already, and passes."""

    def is_stopped(self, flow: Flow) -> bool:
        stopped = flow.notes.get("stopped")
        if stopped == "drop":
            flow.notes["stopped"] = "passed"
        return stopped in ("drop", "reject", "told")


@mutant("ids/drop-others")
class StopsTheHosts(RightIds):
    """Stops everything between the two hosts."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.stopped: set[frozenset[bytes]] = set()

    def forwards(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        pair = frozenset((packet.source, packet.destination))
        passes = super().forwards(flow, packet, header, now)
        if flow.notes.get("stopped") == "drop":
            self.stopped.add(pair)
        return passes and pair not in self.stopped


@mutant("ids/drop-reported", "ids/drop-blocked")
class StopsInSilence(RightIds):
    """Does not report what it stops."""

    def report(
        self, signature: Signature, flow: Flow, packet: Packet, header: Header, now: float
    ) -> None:
        if signature["action"] == "alert":
            super().report(signature, flow, packet, header, now)


@mutant("ids/drop-udp", "ids/drop-fragments", "ids/drop-ipv6", "ids/drop-reported")
class StopsTcpOnly(RightIds):
    """Reports and forwards over UDP what it should stop."""

    def inspected(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        passes = super().inspected(flow, packet, header, now)
        if packet.protocol == UDP:
            flow.notes.pop("stopped", None)
        return passes or packet.protocol == UDP


@mutant("ids/drop-split", "ids/drop-out-of-order")
class StreamsAreReadLater(RightIds):
    """Forwards a segment and reads its stream then: it stops what comes behind."""

    def inspected(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        passes = super().inspected(flow, packet, header, now)
        split = packet.protocol == TCP and not any(
            bytes.fromhex(one["content_hex"]) in packet.data for one in self.signatures
        )
        return passes or (split and flow.notes.get("stopped") == "drop")


@mutant("ids/drop-ipv6")
class Ipv6IsNotStopped(RightIds):
    """Reports and forwards over IPv6 what it should stop."""

    def inspected(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        passes = super().inspected(flow, packet, header, now)
        if len(packet.source) == 16:
            flow.notes.pop("stopped", None)
        return passes or len(packet.source) == 16


@mutant("ids/reject", "ids/reject-both")
class ResetsOfZero(RightIds):
    """Tells both ends with a number of 0."""

    def resets(self, packet: Packet) -> list[bytes]:
        turned = packet._replace(
            source=packet.destination, destination=packet.source, ports=packet.ports[::-1]
        )
        return [refusals.reset_to(one, flags=RST, seq=0, ack=0) for one in (packet, turned)]


@mutant("ids/reject-both")
class TellsTheClient(RightIds):
    """Tells the sender, and leaves the server waiting."""

    def resets(self, packet: Packet) -> list[bytes]:
        return super().resets(packet)[:1]
