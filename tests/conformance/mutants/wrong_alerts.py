"""Mutant IDSs that look in the wrong place, or report what they found wrongly."""

from __future__ import annotations

from typing import Any

from mutants.headers import Header
from mutants.mutant import mutant
from mutants.packets import TCP, UDP, Packet, Piece
from mutants.right import Flow, Key
from mutants.right_ids import RightIds, Signature

ALERTS = (
    "ids/alert",
    "ids/alert-fields",
    "ids/alert-ipv6",
    "ids/alert-to-client",
    "ids/alert-udp",
    "ids/damaged-segment",
    "ids/drop-blocked",
    "ids/drop-reported",
    "ids/each-flow",
    "ids/endpoint-named",
    "ids/extension-headers",
    "ids/fragments",
    "ids/fragments-ipv6",
    "ids/headers",
    "ids/long-stream",
    "ids/many-streams",
    "ids/midstream",
    "ids/nocase",
    "ids/old-sequence",
    "ids/one-sided",
    "ids/out-of-order",
    "ids/overlapping",
    "ids/retransmitted",
    "ids/sequence-wrap",
    "ids/split",
    "ids/split-bytes",
    "ids/syn-data",
    "ids/two-endpoints",
)
"""The cases that count alerts of what is there."""
NOTHING: tuple[bytes, int] = (b"", 0)


# Where it looks.


@mutant("ids/alert-to-client", "ids/split-bytes")
class ClientsOnly(RightIds):
    """Looks at what clients send."""

    def looked_at(self, flow: Flow, packet: Packet) -> tuple[bytes, int] | None:
        return super().looked_at(flow, packet) if self.to_server(flow, packet) else NOTHING


@mutant("ids/alert-ipv6", "ids/drop-ipv6", "ids/extension-headers", "ids/fragments-ipv6")
class Ipv4Only(RightIds):
    """Looks at IPv4 alone."""

    def looked_at(self, flow: Flow, packet: Packet) -> tuple[bytes, int] | None:
        return super().looked_at(flow, packet) if len(packet.source) == 4 else NOTHING


@mutant("ids/headers")
class PortsBehindTwentyBytes(RightIds):
    """Ignores IHL: what stands behind IPv4 options it takes for another port's."""

    def transport(self, packet: Packet) -> Packet:
        if len(packet.source) == 4 and self.ihl(packet.raw[0]) > 20:
            total = int.from_bytes(packet.raw[2:4], "big")
            packet = packet._replace(body=packet.raw[20:total])
        return super().transport(packet)


@mutant("ids/extension-headers", "ids/fragments-ipv6")
class BlindBehindExtensions(RightIds):
    """Forwards IPv6 with extension headers unread."""

    def chain(self, raw: bytes, protocol: int, at: int, end: int) -> tuple[int, int, Piece | None]:
        return protocol, at, None


@mutant("ids/length-field")
class ReadsWhatTrails(RightIds):
    """Looks at all of a datagram, beyond the packet's end too."""

    def datagram(self, packet: Packet) -> bytes:
        trails = packet.raw[int.from_bytes(packet.raw[2:4], "big") :]
        return super().datagram(packet) + (trails if len(packet.source) == 4 else b"")


@mutant("ids/midstream")
class FromTheSynOn(RightIds):
    """Does not look at connections whose beginning it has not seen."""

    def looked_at(self, flow: Flow, packet: Packet) -> tuple[bytes, int] | None:
        if packet.protocol == TCP and flow.packets == 1 and not packet.flags & 2:
            flow.notes["blind"] = True
        return NOTHING if flow.notes.get("blind") else super().looked_at(flow, packet)


@mutant("ids/fragments", "ids/fragments-ipv6", "ids/drop-fragments")
class FragmentsUnread(RightIds):
    """Forwards fragments unread."""

    def together(self, packet: Packet, header: Header) -> Packet | None:
        return None


@mutant("ids/fragments-ipv6")
class Ipv6FragmentsUnread(RightIds):
    """Forwards IPv6 fragments unread."""

    def together(self, packet: Packet, header: Header) -> Packet | None:
        return super().together(packet, header) if len(packet.source) == 4 else None


# What it takes for a match.


@mutant("ids/nocase")
class CaseAlwaysCounts(RightIds):
    """Minds the case of letters where a signature does not."""

    def holds(self, data: bytes, content: bytes, nocase: bool) -> bool:
        return super().holds(data, content, False)


@mutant("ids/near-miss")
class CaseNeverCounts(RightIds):
    """Does not mind the case of letters where a signature does."""

    def holds(self, data: bytes, content: bytes, nocase: bool) -> bool:
        return super().holds(data, content, True)


@mutant("ids/near-miss")
class FirstSixteenBytes(RightIds):
    """Compares the first sixteen bytes of what a signature looks for."""

    def holds(self, data: bytes, content: bytes, nocase: bool) -> bool:
        return super().holds(data, content[:16], nocase)


@mutant("ids/near-miss")
class AnyPort(RightIds):
    """Does not look at the port."""

    def describes(self, signature: Signature, flow: Flow, packet: Packet) -> bool:
        port = packet.ports[1 if self.to_server(flow, packet) else 0]
        return super().describes({**signature, "port": port}, flow, packet)


@mutant("ids/near-miss")
class EitherDirection(RightIds):
    """Does not look at the direction."""

    def describes(self, signature: Signature, flow: Flow, packet: Packet) -> bool:
        to_server = self.to_server(flow, packet)
        direction = "to_server" if to_server else "to_client"
        return super().describes({**signature, "direction": direction}, flow, packet)


@mutant("ids/apart")
class DatagramsAreAStream(RightIds):
    """Puts the datagrams of a flow together."""

    def looked_at(self, flow: Flow, packet: Packet) -> tuple[bytes, int] | None:
        if packet.protocol != UDP:
            return super().looked_at(flow, packet)
        before = flow.notes.get("text", b"")
        flow.notes["text"] = before + self.datagram(packet)
        return flow.notes["text"], len(before)


@mutant("ids/apart")
class BothDirectionsAreOne(RightIds):
    """Puts what both ends of a connection say in one stream."""

    def stream(self, flow: Flow, packet: Packet, to_server: bool) -> tuple[bytes, int] | None:
        found = super().stream(flow, packet, to_server)
        if not found or not found[0]:
            return found
        said = flow.notes.setdefault("said", bytearray())
        before = len(said)
        said += found[0][found[1] :]
        return bytes(said), before


@mutant("ids/two-endpoints", "ids/apart")
class EndpointsAreOne(RightIds):
    """Knows flows by their 5-tuple, whichever endpoint they come from."""

    def key(self, packet: Packet, header: Header) -> Key:
        return super().key(packet, header)[1:]


# What it reports.


@mutant("ids/each-flow")
class IdsOfTuples(RightIds):
    """Makes flow_id of the tuple: a tuple that is used again has the same."""

    def opened(self, key: Key, flow: Flow) -> Flow:
        opened = super().opened(key, flow)
        opened.notes["id"] = hash(key) & 0xFFFFFFFF
        return opened


@mutant("ids/each-flow")
class OnceForEachTuple(RightIds):
    """Reports a signature once for each tuple, however often it is used again."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.reported: set[Key] = set()

    def report(
        self, signature: Signature, flow: Flow, packet: Packet, header: Header, now: float
    ) -> None:
        key = (signature["sid"], *self.key(packet, header))
        if key not in self.reported:
            self.reported.add(key)
            super().report(signature, flow, packet, header, now)


@mutant(*ALERTS)
class TwiceForEachMatch(RightIds):
    """Reports every match twice."""

    def report(
        self, signature: Signature, flow: Flow, packet: Packet, header: Header, now: float
    ) -> None:
        super().report(signature, flow, packet, header, now)
        super().report(signature, flow, packet, header, now)


@mutant("ids/alert-udp", "ids/alert-ipv6")
class EverythingIsTcp(RightIds):
    """Names TCP as the protocol, whatever it was."""

    def report(
        self, signature: Signature, flow: Flow, packet: Packet, header: Header, now: float
    ) -> None:
        super().report(signature, flow, packet._replace(protocol=TCP), header, now)


@mutant("ids/alert-fields", "ids/alert-ipv6", "ids/alert-to-client", "ids/alert-udp")
class NoTimeZone(RightIds):
    """Leaves the zone out of the time."""

    def time(self, now: float) -> str:
        return super().time(now).removesuffix("+0000")


@mutant("ids/alert-to-client")
class ClientsAreSources(RightIds):
    """Names the client as the source, whoever sent the packet."""

    def report(
        self, signature: Signature, flow: Flow, packet: Packet, header: Header, now: float
    ) -> None:
        if not self.to_server(flow, packet):
            packet = packet._replace(
                source=packet.destination, destination=packet.source, ports=packet.ports[::-1]
            )
        super().report(signature, flow, packet, header, now)


@mutant("ids/alert-fields")
class EverythingIsBlocked(RightIds):
    """Says of what it only reports that it was blocked."""

    def action(self, signature: Signature) -> str:
        return "blocked"


@mutant("ids/drop-blocked")
class EverythingIsAllowed(RightIds):
    """Says of what it stopped that it was allowed."""

    def action(self, signature: Signature) -> str:
        return "allowed"


@mutant("ids/endpoint-named")
class NamelessEndpoints(RightIds):
    """Does not say behind which endpoint it was."""

    def report(
        self, signature: Signature, flow: Flow, packet: Packet, header: Header, now: float
    ) -> None:
        super().report(signature, flow, packet, header._replace(endpoint=0), now)
