"""Mutant firewalls that misread a packet, or apply the policy to another one than they forward."""

from __future__ import annotations

import struct

from appliance_sdk.conformance.compare import Reply
from mutants.headers import Header
from mutants.mutant import mutant
from mutants.packets import ACK, FIN, ICMP, ICMP6, SYN, TCP, UDP, Packet, Piece
from mutants.right import Flow, Key, Outer
from mutants.right_firewall import RightFirewall, Rule

_PORTS = struct.Struct(">HH")


# Where the ports stand.


@mutant("firewall/ip-options", origin="gwlbtun")
class PortsAtTwenty(RightFirewall):
    """Ignores IHL: it reads ports at byte 20, where there may be options."""

    def transport(self, packet: Packet) -> Packet:
        read = super().transport(packet)
        if any(read.ports) and len(packet.source) == 4:
            return read._replace(ports=_PORTS.unpack_from(packet.raw, 20))
        return read


@mutant("firewall/extension-headers")
class PortsAtForty(RightFirewall):
    """Finds the transport protocol of IPv6, and reads ports at byte 40, where extensions may be."""

    def transport(self, packet: Packet) -> Packet:
        read = super().transport(packet)
        if any(read.ports) and len(packet.source) == 16:
            return read._replace(ports=_PORTS.unpack_from(packet.raw, 40))
        return read


@mutant("firewall/extension-headers", origin="gwlbtun")
class ExtensionsAreProtocols(RightFirewall):
    """Does not walk IPv6 extension headers: what has some is of a protocol that no rule allows."""

    def chain(self, raw: bytes, protocol: int, at: int, end: int) -> tuple[int, int, Piece | None]:
        return protocol, at, None


@mutant(
    "firewall/fragments-allowed",
    "firewall/fragments-denied",
    "firewall/fragments-denied-ipv6",
    "firewall/fragments-denied-reversed",
    "firewall/reject-of-fragments",
    origin="gwlbtun",
)
class LaterFragmentsHavePorts(RightFirewall):
    """Takes the first bytes of a later fragment for ports, and judges it by them."""

    def transport(self, packet: Packet) -> Packet:
        return super().transport(packet._replace(piece=None))

    def judge(self, packet: Packet, header: Header, outer: Outer, now: float) -> list[Reply]:
        return super().judge(packet._replace(piece=None), header, outer, now)


@mutant("firewall/no-ports")
class PortsOfTheLastPacket(RightFirewall):
    """Does not clear the ports that it read: what is too short has those of the packet before."""

    before = (40000, 443)

    def transport(self, packet: Packet) -> Packet:
        read = super().transport(packet)
        self.before = read.ports if any(read.ports) else self.before
        return read._replace(ports=self.before)

    def may_open(self, packet: Packet) -> bool:
        return (len(packet.body) < 20 and packet.protocol in (TCP, UDP)) or super().may_open(packet)


# Fragments.


@mutant(
    "firewall/fragments-denied",
    "firewall/fragments-denied-ipv6",
    "firewall/fragments-denied-reversed",
    "firewall/fragments-borrowed",
    "firewall/reject-of-fragments",
)
class LaterFragmentsPass(RightFirewall):
    """Lets later fragments pass: without the first, they do no harm."""

    def later(self, packet: Packet, header: Header, outer: Outer) -> list[Reply]:
        return self.replies(Flow(header.raw, outer, 0.0), packet, header, outer)


@mutant("firewall/fragments-borrowed")
class IdentificationIsEnough(RightFirewall):
    """Knows datagrams by their identification alone."""

    def datagram(self, packet: Packet, header: Header) -> Key:
        assert packet.piece is not None
        return (packet.piece.identification,)


@mutant("firewall/fragments-borrowed")
class ProtocolDoesNotMatter(RightFirewall):
    """Knows datagrams by addresses and identification, whatever their protocol."""

    def datagram(self, packet: Packet, header: Header) -> Key:
        assert packet.piece is not None
        return packet.source, packet.destination, packet.piece.identification


@mutant(
    "firewall/fragments-denied-reversed",
    "firewall/fragments-borrowed",
    "firewall/reject-of-fragments",
)
class LaterFragmentsMayComeFirst(RightFirewall):
    """Lets fragments pass whose first it has not seen, as they may have overtaken it."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.seen: set[Key] = set()

    def judge(self, packet: Packet, header: Header, outer: Outer, now: float) -> list[Reply]:
        if packet.piece is not None and not packet.piece.offset:
            self.seen.add(self.datagram(packet, header))
        return super().judge(packet, header, outer, now)

    def later(self, packet: Packet, header: Header, outer: Outer) -> list[Reply]:
        if self.datagram(packet, header) not in self.seen:
            return self.replies(Flow(header.raw, outer, 0.0), packet, header, outer)
        return super().later(packet, header, outer)


@mutant("firewall/fragment-overlap")
class OverlapsPass(RightFirewall):
    """Does not look whether fragments overlap."""

    def fits_in(self, packet: Packet, header: Header) -> bool:
        return True

    def takes_piece(self, packet: Packet) -> bool:
        return True


@mutant("firewall/fragment-tiny")
class NoFlagsNoSyn(RightFirewall):
    """Lets a first fragment pass that is too short for flags: without SYN it opens nothing."""

    def takes_piece(self, packet: Packet) -> bool:
        return True

    def verdict(self, packet: Packet, header: Header) -> str:
        short = packet.protocol == TCP and packet.piece is not None and len(packet.body) < 14
        return "allow" if short else super().verdict(packet, header)


@mutant("firewall/fragments-allowed")
class NoFragmentsPass(RightFirewall):
    """Drops fragments."""

    def fits_in(self, packet: Packet, header: Header) -> bool:
        return False


# Which packet is judged.


@mutant("firewall/nested")
class JudgesWhatIsInside(RightFirewall):
    """Looks into IP in IP, and judges the packet inside."""

    def transport(self, packet: Packet) -> Packet:
        if packet.protocol == 4 and len(packet.body) >= 40:
            inside = self.ipv4(packet.body)
            return super().transport(inside)._replace(raw=packet.raw)
        return super().transport(packet)


@mutant("firewall/nested", origin="suricata")
class JudgesWhatIsInGeneve(RightFirewall):
    """Takes UDP to port 6081 for GENEVE, also inside, and judges what that carries."""

    def transport(self, packet: Packet) -> Packet:
        read = super().transport(packet)
        if read.protocol == UDP and read.ports[1] == 6081 and len(read.body) > 68:
            inside = self.ipv4(read.body[48:])
            return super().transport(inside)._replace(raw=packet.raw)
        return read


@mutant("firewall/trailing-bytes")
class JudgesTheEnd(RightFirewall):
    """Takes the last bytes of the datagram for the packet, and forwards all of it."""

    def transport(self, packet: Packet) -> Packet:
        total = int.from_bytes(packet.raw[2:4], "big")
        if len(packet.source) == 4 and len(packet.raw) - total >= 40:
            inside = self.ipv4(packet.raw[total:])
            return super().transport(inside)._replace(raw=packet.raw)
        return super().transport(packet)


# The rules.


@mutant(
    "firewall/after-close",
    "firewall/answer-late",
    "firewall/blocked-network",
    "firewall/default",
    "firewall/direction",
    "firewall/drop-ipv6",
    "firewall/drop-other-direction",
    "firewall/drop-silent",
    "firewall/extension-headers",
    "firewall/fragments-denied",
    "firewall/fragments-denied-ipv6",
    "firewall/fragments-denied-reversed",
    "firewall/nested",
    "firewall/network-borders",
    "firewall/other-protocols",
    "firewall/protocol",
    "firewall/reject-blocks",
    "firewall/same-address",
    "firewall/same-hosts",
    "firewall/scan",
    "firewall/source-port",
    "firewall/unsolicited-udp",
)
class DefaultIsAllow(RightFirewall):
    """Lets pass what no rule matches."""

    policy = {**RightFirewall.policy, "default": "allow"}


@mutant(
    "firewall/blocked-network",
    "firewall/drop",
    "firewall/drop-ipv6",
    "firewall/endpoints",
    "firewall/first-match",
    "firewall/network-borders",
    "firewall/reject-blocks",
)
class LastMatch(RightFirewall):
    """Takes the last rule that matches."""

    policy = {**RightFirewall.policy, "rules": RightFirewall.policy["rules"][::-1]}


@mutant("firewall/network-borders", "firewall/reject-blocks")
class HostsOfANetwork(RightFirewall):
    """Does not count the first and the last address of an IPv4 network, which are no host's."""

    def is_in(self, address: bytes, network: str) -> bool:
        if not super().is_in(address, network) or len(address) == 16 or network == "any":
            return super().is_in(address, network)
        size = 1 << 32 - int(network.partition("/")[2])
        return size == 1 or int.from_bytes(address, "big") % size not in (0, size - 1)


@mutant("firewall/protocol", "firewall/scan")
class PortsHaveNoProtocol(RightFirewall):
    """Takes a rule for TCP for one for UDP too, and the other way round."""

    def matches_protocol(self, rule: Rule, packet: Packet) -> bool:
        either = {rule["protocol"]} <= {"tcp", "udp"} and packet.protocol in (TCP, UDP)
        return either or super().matches_protocol(rule, packet)


@mutant("firewall/other-protocols", "firewall/nested")
class JudgesThreeProtocols(RightFirewall):
    """Lets pass what is not TCP, UDP or ICMP: no rule can name it."""

    def verdict(self, packet: Packet, header: Header) -> str:
        if packet.protocol not in (TCP, UDP, ICMP, ICMP6):
            return "allow"
        return super().verdict(packet, header)


@mutant(
    "firewall/drop-ipv6",
    "firewall/extension-headers",
    "firewall/fragments-denied-ipv6",
    "firewall/icmp-local",
    "firewall/reject-of-icmpv6",
    "firewall/reject-tcp-ipv6",
    "firewall/reject-udp-ipv6",
)
class Ipv6Passes(RightFirewall):
    """Has rules for IPv4, and lets IPv6 pass."""

    def verdict(self, packet: Packet, header: Header) -> str:
        return "allow" if len(packet.source) == 16 else super().verdict(packet, header)


@mutant(
    "firewall/allow-ipv6",
    "firewall/extension-headers",
    "firewall/icmp-error-ipv6",
    "firewall/reject-tcp-ipv6",
    "firewall/reject-udp-ipv6",
)
class Ipv6IsDropped(RightFirewall):
    """Has rules for IPv4, and drops IPv6."""

    def verdict(self, packet: Packet, header: Header) -> str:
        return "drop" if len(packet.source) == 16 else super().verdict(packet, header)


@mutant(
    "firewall/allow",
    "firewall/answer-late",
    "firewall/icmp-local",
    "firewall/ping-identifier",
    "firewall/unsolicited-ping",
)
class NoPings(RightFirewall):
    """Has no rules for ICMP."""

    def matches_protocol(self, rule: Rule, packet: Packet) -> bool:
        return packet.protocol != ICMP and super().matches_protocol(rule, packet)


@mutant("firewall/endpoints")
class OneRuleSet(RightFirewall):
    """Applies the rules of one endpoint to all."""

    def decide(self, packet: Packet, port: int, endpoint: int) -> str:
        return super().decide(packet, port, 0)


@mutant("firewall/endpoints")
class OneFlowTable(RightFirewall):
    """Has rules for each endpoint, and one table of flows for all."""

    def key(self, packet: Packet, header: Header) -> Key:
        return super().key(packet, header)[1:]


@mutant("firewall/direction")
class EitherEndMayOpen(RightFirewall):
    """Matches source and destination of a rule either way round."""

    def matches(self, rule: Rule, packet: Packet, port: int, endpoint: int) -> bool:
        turned = packet._replace(source=packet.destination, destination=packet.source)
        matches = super().matches
        return matches(rule, packet, port, endpoint) or matches(rule, turned, port, endpoint)


@mutant("firewall/source-port")
class EitherPortCounts(RightFirewall):
    """Takes the lower port for the server's, whichever end has it."""

    def decide(self, packet: Packet, port: int, endpoint: int) -> str:
        return super().decide(packet, min(self.ports(packet)), endpoint)


@mutant(
    "firewall/blocked-network",
    "firewall/drop",
    "firewall/drop-ipv6",
    "firewall/endpoints",
    "firewall/first-match",
    "firewall/network-borders",
)
class AllowListOnly(RightFirewall):
    """Skips rules that drop: what no rule allows is dropped anyway."""

    def matches(self, rule: Rule, packet: Packet, port: int, endpoint: int) -> bool:
        return rule["action"] != "drop" and super().matches(rule, packet, port, endpoint)


@mutant("firewall/blocked-network", "firewall/reject-blocks")
class BlocksTcpOnly(RightFirewall):
    """Takes "any" protocol for TCP where a rule forbids something."""

    def matches(self, rule: Rule, packet: Packet, port: int, endpoint: int) -> bool:
        forbids = rule["protocol"] == "any" and rule["action"] != "allow"
        other = forbids and packet.protocol != TCP
        return not other and super().matches(rule, packet, port, endpoint)


@mutant("firewall/scan", "firewall/reject-no-more")
class GivesUpUnderLoad(RightFirewall):
    """Lets new flows pass unjudged after two hundred of one client, to keep up."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.count: dict[bytes, int] = {}

    def verdict(self, packet: Packet, header: Header) -> str:
        self.count[packet.source] = count = self.count.get(packet.source, 0) + 1
        return "allow" if count > 200 else super().verdict(packet, header)


@mutant(
    "firewall/blocked-network",
    "firewall/drop-other-direction",
    "firewall/endpoints",
    "firewall/flags",
    "firewall/fragments-denied",
    "firewall/fragments-denied-ipv6",
    "firewall/fragments-denied-reversed",
    "firewall/midstream-denied",
    "firewall/no-ports",
    "firewall/reject-blocks",
    "firewall/reject-midstream",
    "firewall/reject-of-reset",
    "firewall/reject-tcp-numbers",
    "firewall/same-hosts",
    "firewall/unsolicited-segment",
    "firewall/unsolicited-syn-ack",
)
class OnlyPlainSyns(RightFirewall):
    """Judges SYNs, and lets other segments pass that belong to no connection."""

    def may_open(self, packet: Packet) -> bool:
        return packet.protocol == TCP or super().may_open(packet)

    def decide(self, packet: Packet, port: int, endpoint: int) -> str:
        plain = packet.protocol != TCP or packet.flags & (SYN | ACK | FIN) == SYN
        return super().decide(packet, port, endpoint) if plain else "allow"


@mutant("firewall/same-address")
class TrustsOneself(RightFirewall):
    """Lets pass what a host sends to itself."""

    def verdict(self, packet: Packet, header: Header) -> str:
        itself = packet.source == packet.destination
        return "allow" if itself else super().verdict(packet, header)
