"""Mutant firewalls that know too little of flows, or believe too much."""

from __future__ import annotations

from appliance_sdk.conformance.compare import Reply
from mutants.headers import Header
from mutants.mutant import mutant
from mutants.packets import ACK, FIN, ICMP, ICMP6, SYN, TCP, UDP, Packet
from mutants.right import Flow, Key, Outer
from mutants.right_firewall import ECHO, RightFirewall


class Stateless(RightFirewall):
    """Lets answers pass because of where they come from."""

    def is_answer(self, packet: Packet) -> bool:
        """Whether a packet of no flow looks like one's answer."""
        return False

    def verdict(self, packet: Packet, header: Header) -> str:
        if self.is_answer(packet):
            turned = packet._replace(source=packet.destination, destination=packet.source)
            return self.decide(turned, self.ports(packet)[0], header.endpoint)
        return super().verdict(packet, header)


@mutant("firewall/unsolicited-syn-ack", "firewall/unsolicited-segment")
class EstablishedByFlag(Stateless):
    """Takes TCP with ACK from an allowed port for an answer, as access lists do."""

    def is_answer(self, packet: Packet) -> bool:
        return packet.protocol == TCP and bool(packet.flags & ACK)


@mutant(
    "firewall/answer-late",
    "firewall/fragments-denied",
    "firewall/fragments-denied-ipv6",
    "firewall/fragments-denied-reversed",
    "firewall/source-port",
    "firewall/unsolicited-udp",
)
class AnswersFromPort53(Stateless):
    """Takes UDP from an allowed port for an answer."""

    def is_answer(self, packet: Packet) -> bool:
        return packet.protocol == UDP and packet.ports[0] == 53


@mutant(
    "firewall/answer-late",
    "firewall/fragments-denied",
    "firewall/fragments-denied-ipv6",
    "firewall/fragments-denied-reversed",
    "firewall/ping-identifier",
    "firewall/unsolicited-ping",
)
class RepliesPass(Stateless):
    """Takes echo replies for answers, asked for or not."""

    def is_answer(self, packet: Packet) -> bool:
        return packet.protocol in ECHO and packet.body[:1] in (b"\x00", b"\x81")


@mutant("firewall/unsolicited-udp", "firewall/unsolicited-ping")
class AnswersBlockQuestions(RightFirewall):
    """Remembers what it dropped, and drops the question after an answer that came too early."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.dropped: set[Key] = set()

    def verdict(self, packet: Packet, header: Header) -> str:
        key = self.key(packet, header)
        verdict = "drop" if key in self.dropped else super().verdict(packet, header)
        if verdict == "drop" and packet.protocol != TCP:
            self.dropped.add(key)
        return verdict


@mutant("firewall/ping-identifier", origin="gwlb-xdp once")
class PingsWithoutIdentifier(RightFirewall):
    """Knows pings by their addresses alone."""

    def ports(self, packet: Packet) -> tuple[int, int]:
        echo = packet.protocol in ECHO and packet.body[:1] in (b"\x00", b"\x08", b"\x80", b"\x81")
        return (8, 8) if echo else super().ports(packet)


@mutant("firewall/answer-late")
class FlowsAreForEver(RightFirewall):
    """Never forgets a flow."""

    def is_over(self, flow: Flow, packet: Packet, now: float) -> bool:
        return False


@mutant(
    "firewall/after-close",
    "firewall/drop-stays",
    "firewall/extension-headers",
    "firewall/icmp-error-of-denied",
    "firewall/ip-options",
    "firewall/reject-again",
    "firewall/reject-blocks",
    "firewall/reject-encapsulation",
    "firewall/reject-no-more",
)
class SecondTryPasses(RightFirewall):
    """Remembers a flow before it judges it: the second SYN belongs to a flow that is known."""

    def refused(self, verdict: str, packet: Packet, header: Header, outer: Outer) -> list[Reply]:
        if packet.protocol == TCP and packet.flags & SYN:
            flow = self.opened(self.key(packet, header), Flow(header.raw, outer, 0.0))
            flow.notes["denied"] = True
        return super().refused(verdict, packet, header, outer)

    def known(self, packet: Packet, header: Header, now: float) -> Flow | None:
        flow = self.flows.get(self.key(packet, header))
        if flow is not None and flow.notes.get("denied"):
            return flow if self.opens(packet, flow) else None
        return super().known(packet, header, now)


@mutant(
    "firewall/blocked-network",
    "firewall/drop-other-direction",
    "firewall/endpoints",
    "firewall/midstream-denied",
    "firewall/reject-blocks",
    "firewall/same-hosts",
)
class AnswersToTheDeniedPass(RightFirewall):
    """Lets the answers of a server pass to a client whose question it dropped."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.denied: dict[Key, bytes] = {}

    def verdict(self, packet: Packet, header: Header) -> str:
        key = self.key(packet, header)
        if self.denied.get(key) == packet.destination:
            return "allow"
        verdict = super().verdict(packet, header)
        if verdict != "allow":
            self.denied[key] = packet.source
        return verdict


@mutant(
    "firewall/blocked-network",
    "firewall/drop-other-direction",
    "firewall/endpoints",
    "firewall/fragments-denied",
    "firewall/fragments-denied-ipv6",
    "firewall/fragments-denied-reversed",
    "firewall/midstream-denied",
    "firewall/reject-blocks",
    "firewall/reject-midstream",
    "firewall/same-hosts",
    "firewall/unsolicited-segment",
)
class MidstreamPasses(RightFirewall):
    """Lets connections go on that it meets in their middle, without a look at the policy."""

    def verdict(self, packet: Packet, header: Header) -> str:
        middle = packet.protocol == TCP and packet.data and packet.flags & ACK
        return "allow" if middle else super().verdict(packet, header)


@mutant(
    "firewall/after-close",
    "firewall/answer-late",
    "firewall/endpoints",
    "firewall/fragment-overlap",
    "firewall/icmp-local",
    "firewall/ping-identifier",
    "firewall/same-hosts",
    "firewall/scan",
)
class HostsNotFlows(RightFirewall):
    """Lets everything pass between two hosts once something was allowed."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.pairs: set[frozenset[bytes]] = set()

    def verdict(self, packet: Packet, header: Header) -> str:
        pair = frozenset((packet.source, packet.destination))
        verdict = "allow" if pair in self.pairs else super().verdict(packet, header)
        if verdict == "allow":
            self.pairs.add(pair)
        return verdict


@mutant("firewall/after-close")
class ServersMayCallBack(RightFirewall):
    """Takes a SYN from the server, on the ports of a connection that it knows, for one of it."""

    def known(self, packet: Packet, header: Header, now: float) -> Flow | None:
        flow = self.flows.get(self.key(packet, header))
        if flow is None or flow.reset or self.is_over(flow, packet, now):
            return None
        return flow


@mutant("firewall/after-close")
class ClosedStaysClosed(RightFirewall):
    """Does not let a connection begin on the ports of one that has ended."""

    def follow(self, flow: Flow, packet: Packet) -> None:
        flow.notes["fins"] = flow.notes.get("fins", 0) + bool(packet.flags & FIN)
        super().follow(flow, packet)

    def verdict(self, packet: Packet, header: Header) -> str:
        before = self.flows.get(self.key(packet, header))
        ended = before is not None and before.notes.get("fins", 0) > 1
        return "drop" if ended else super().verdict(packet, header)


@mutant("firewall/forged-reset")
class EveryResetCounts(RightFirewall):
    """Takes every RST for the end of its connection, whatever its number."""

    def takes_reset(self, packet: Packet, following: int | None) -> bool:
        return True


@mutant("firewall/icmp-error", "firewall/icmp-error-ipv6")
class NoErrorsPass(RightFirewall):
    """Drops ICMP errors."""

    def error(self, packet: Packet, header: Header, outer: Outer, now: float) -> list[Reply]:
        return []


@mutant("firewall/icmp-error")
class ErrorsFromEndsOnly(RightFirewall):
    """Lets ICMP errors pass from the other end of a flow, and not from routers."""

    def error(self, packet: Packet, header: Header, outer: Outer, now: float) -> list[Reply]:
        try:
            from_end = self.quoted(packet).destination == packet.source
        except (IndexError, ValueError):
            return []
        return super().error(packet, header, outer, now) if from_end else []


@mutant("firewall/icmp-error-of-denied", "firewall/reject-of-icmp", "firewall/reject-of-icmpv6")
class ErrorsPass(RightFirewall):
    """Lets every ICMP error pass: they only report."""

    def error(self, packet: Packet, header: Header, outer: Outer, now: float) -> list[Reply]:
        return self.replies(Flow(header.raw, outer, now), packet, header, outer)


@mutant("firewall/icmp-local")
class IcmpPasses(RightFirewall):
    """Takes every ICMP message between two hosts for a part of their ping."""

    def verdict(self, packet: Packet, header: Header) -> str:
        other = packet.protocol in (ICMP, ICMP6) and packet.body[:1] not in (b"\x08", b"\x80")
        if other and packet.body[:1] not in (b"\x00", b"\x81"):
            return "allow"
        return super().verdict(packet, header)
