"""Mutant firewalls that say no wrongly: to the wrong end, with wrong numbers, too often, aloud."""

from __future__ import annotations

from appliance_sdk.conformance.compare import Reply
from mutants import refusals
from mutants.headers import Header
from mutants.mutant import mutant
from mutants.packets import ACK, FIN, ICMP, ICMP6, RST, SYN, TCP, UDP, Packet
from mutants.right import Flow, Key, Outer
from mutants.right_firewall import RightFirewall

RESETS = (
    "firewall/reject-again",
    "firewall/reject-encapsulation",
    "firewall/reject-tcp",
    "firewall/reject-tcp-ipv6",
    "firewall/reject-tcp-numbers",
    "firewall/reject-two-nodes",
)
"""The cases that look at a RST."""
ERRORS = (
    "firewall/reject-encapsulation",
    "firewall/reject-of-fragments",
    "firewall/reject-udp",
)
"""The cases that look at an ICMP error."""


@mutant("firewall/drop-silent", "firewall/trailing-bytes")
class DropsAloud(RightFirewall):
    """Tells the sender of a drop, too."""

    def refused(self, verdict: str, packet: Packet, header: Header, outer: Outer) -> list[Reply]:
        aloud = "reject" if self.may_open(packet) else verdict
        return super().refused(aloud, packet, header, outer)


@mutant(
    "firewall/reject-again",
    "firewall/reject-encapsulation",
    "firewall/reject-tcp",
    "firewall/reject-tcp-ipv6",
    "firewall/reject-tcp-numbers",
    "firewall/reject-two-nodes",
    "firewall/reject-udp",
    "firewall/reject-udp-ipv6",
)
class RejectIsDrop(RightFirewall):
    """Says nothing when it should."""

    def made(self, packet: Packet) -> list[bytes]:
        return []


@mutant(
    "firewall/first-match",
    "firewall/reject-again",
    "firewall/reject-blocks",
    "firewall/reject-encapsulation",
    "firewall/reject-no-more",
    "firewall/reject-of-fragments",
    "firewall/reject-tcp",
    "firewall/reject-tcp-ipv6",
    "firewall/reject-tcp-numbers",
    "firewall/reject-two-nodes",
    "firewall/reject-udp",
    "firewall/reject-udp-ipv6",
    "firewall/scan",
)
class TellsAndForwards(RightFirewall):
    """Tells the sender, and forwards the packet all the same."""

    def refused(self, verdict: str, packet: Packet, header: Header, outer: Outer) -> list[Reply]:
        told = super().refused(verdict, packet, header, outer)
        flow = Flow(header.raw, outer, 0.0)
        return told + (self.replies(flow, packet, header, outer) if told else [])


@mutant(*RESETS)
class ResetWithoutAck(RightFirewall):
    """Answers a SYN with a RST that acknowledges nothing."""

    def made(self, packet: Packet) -> list[bytes]:
        if packet.protocol == TCP and not packet.flags & RST:
            return [refusals.reset_to(packet, flags=RST, seq=0, ack=0)]
        return super().made(packet)


@mutant("firewall/reject-tcp-numbers")
class SynsTakeOne(RightFirewall):
    """Acknowledges one more than the SYN's number, whatever else the SYN carries."""

    def made(self, packet: Packet) -> list[bytes]:
        return super().made(packet._replace(data=b"", flags=packet.flags & ~FIN))


@mutant(*RESETS, "firewall/reject-no-more")
class ResetToBothEnds(RightFirewall):
    """Answers a SYN with a RST to the client, and one to the server, which has heard nothing."""

    def made(self, packet: Packet) -> list[bytes]:
        made = super().made(packet)
        if packet.protocol != TCP:
            return made
        turned = packet._replace(source=packet.destination, destination=packet.source)
        turned = turned._replace(ports=packet.ports[::-1])
        return [*made, refusals.reset_to(turned, flags=RST, seq=packet.sequence, ack=0)]


@mutant(*RESETS)
class ResetWithoutChecksum(RightFirewall):
    """Leaves the checksum of a RST to a network card that never sees it."""

    def made(self, packet: Packet) -> list[bytes]:
        made = super().made(packet)
        if packet.protocol != TCP or not made:
            return made
        return [made[0][:-4] + b"\0\0" + made[0][-2:]]


@mutant(*ERRORS, "firewall/reject-udp-ipv6")
class QuotesTheHeaderOnly(RightFirewall):
    """Quotes the IP header in an ICMP error, and not the eight bytes behind."""

    def made(self, packet: Packet) -> list[bytes]:
        if packet.protocol != UDP:
            return super().made(packet)
        four = len(packet.source) == 4
        kind, code = refusals.PROHIBITED if four else refusals.PROHIBITED6
        quoted = packet.raw[: refusals.header_size(packet)]
        return [refusals.icmp_error(packet, kind, code, quoted)]


@mutant("firewall/reject-udp-ipv6")
class QuotesEverything(RightFirewall):
    """Quotes all of an IPv6 packet in an ICMPv6 error."""

    def made(self, packet: Packet) -> list[bytes]:
        if packet.protocol == UDP and len(packet.source) == 16:
            return [refusals.icmp_error(packet, *refusals.PROHIBITED6, packet.raw)]
        return super().made(packet)


@mutant(*ERRORS)
class SaysTimeExceeded(RightFirewall):
    """Answers UDP with an ICMP error that means something else: time exceeded."""

    def made(self, packet: Packet) -> list[bytes]:
        if packet.protocol == UDP and len(packet.source) == 4:
            return [refusals.icmp_error(packet, 11, 0, packet.raw[:28])]
        return super().made(packet)


@mutant("firewall/reject-encapsulation")
class RefusesInTheFirstHeader(RightFirewall):
    """Answers in the encapsulation that a tuple's first packet had."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.first: dict[Key, bytes] = {}

    def refusal_header(self, header: Header, packet: Packet) -> bytes:
        return self.first.setdefault(self.key(packet, header), header.raw)


@mutant("firewall/reject-two-nodes")
class RefusesToTheFirstNode(RightFirewall):
    """Sends what it makes itself to the node that it heard of first."""

    node = ""

    def refused(self, verdict: str, packet: Packet, header: Header, outer: Outer) -> list[Reply]:
        self.node = self.node or "10.9.0.11"
        made = super().refused(verdict, packet, header, outer)
        return [one._replace(destination=(self.node, 6081)) for one in made]


@mutant("firewall/reject-again", "firewall/reject-encapsulation")
class TellsOnce(RightFirewall):
    """Tells each flow once."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.told: set[Key] = set()

    def refused(self, verdict: str, packet: Packet, header: Header, outer: Outer) -> list[Reply]:
        key = self.key(packet, header)
        if key in self.told:
            return []
        self.told.add(key)
        return super().refused(verdict, packet, header, outer)


class RefusesMore(RightFirewall):
    """Judges, and so refuses, what cannot open a flow."""

    def verdict(self, packet: Packet, header: Header) -> str:
        if self.also(packet):
            return self.decide(packet, self.ports(packet)[1], header.endpoint)
        return super().verdict(packet, header)

    def also(self, packet: Packet) -> bool:
        """What else it judges."""
        return False


@mutant("firewall/reject-of-reset")
class AnswersResets(RefusesMore):
    """Answers a RST with a RST."""

    def also(self, packet: Packet) -> bool:
        return packet.protocol == TCP and bool(packet.flags & RST)

    def made(self, packet: Packet) -> list[bytes]:
        return super().made(packet._replace(flags=packet.flags & ~RST))


@mutant("firewall/reject-of-icmp", "firewall/reject-of-icmpv6")
class AnswersIcmp(RefusesMore):
    """Answers ICMP errors and echo replies with ICMP errors."""

    def error(self, packet: Packet, header: Header, outer: Outer, now: float) -> list[Reply]:
        passed = super().error(packet, header, outer, now)
        return passed or self.refused(self.verdict(packet, header), packet, header, outer)

    def also(self, packet: Packet) -> bool:
        return packet.protocol in (ICMP, ICMP6)

    def made(self, packet: Packet) -> list[bytes]:
        if packet.protocol in (ICMP, ICMP6):
            return [refusals.prohibited(packet)]
        return super().made(packet)


@mutant("firewall/reject-of-group")
class AnswersGroups(RightFirewall):
    """Answers what was sent to a group, in the group's name."""

    def takes_destination(self, destination: bytes) -> bool:
        return True


@mutant("firewall/reject-of-fragments")
class AnswersEachFragment(RightFirewall):
    """Answers each fragment of a datagram."""

    def later(self, packet: Packet, header: Header, outer: Outer) -> list[Reply]:
        passed = super().later(packet, header, outer)
        verdict = self.decide(packet, 69, header.endpoint)
        return passed or self.refused(verdict, packet, header, outer)


@mutant("firewall/reject-midstream")
class ZeroMidstream(RefusesMore):
    """Answers data of a connection that it does not know with a RST of number 0."""

    def also(self, packet: Packet) -> bool:
        return packet.protocol == TCP and packet.flags & (SYN | ACK | RST) == ACK

    def made(self, packet: Packet) -> list[bytes]:
        if packet.protocol == TCP and packet.flags & ACK:
            return [refusals.reset_to(packet, flags=RST, seq=0, ack=0)]
        return super().made(packet)


@mutant(
    "firewall/reject-no-more",
    "firewall/reject-of-fragments",
    "firewall/reject-udp",
    "firewall/reject-udp-ipv6",
)
class ThreeTimes(RightFirewall):
    """Answers UDP three times, as an answer may be lost."""

    def made(self, packet: Packet) -> list[bytes]:
        return super().made(packet) * (3 if packet.protocol == UDP else 1)
