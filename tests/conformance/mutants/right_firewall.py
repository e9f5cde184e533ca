"""The right firewall: the right appliance with the suite's policy, stateful and strict.

It passes every case of the firewall profile.
"""

from __future__ import annotations

import ipaddress
import json
import struct
from functools import lru_cache
from typing import Any, ClassVar

from appliance_sdk.conformance.case import Profile
from appliance_sdk.conformance.compare import Reply
from appliance_sdk.conformance.features import Features
from appliance_sdk.conformance.policy_files import POLICY
from mutants import refusals
from mutants.headers import Header, Unsound
from mutants.packets import ACK, FIN, ICMP, ICMP6, RST, SYN, TCP, UDP, Packet
from mutants.right import Flow, Key, Outer, Right

ECHO = {ICMP: 8, ICMP6: 128}
ERRORS = {ICMP: (3, 4, 11, 12), ICMP6: (1, 2, 3, 4)}
_PROTOCOLS = {"tcp": (TCP,), "udp": (UDP,), "icmp": (ICMP, ICMP6)}
_MASK = 0xFFFFFFFF

Rule = dict[str, Any]


class RightFirewall(Right):
    """Lets flows pass that a rule allows, from their first packet; says no as RFCs say it."""

    profiles = (Profile.FIREWALL,)
    features = Features(midstream=False, reject=True, endpoints=True)
    policy: ClassVar[dict[str, Any]] = json.loads(POLICY.read_text())

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.passed: set[Key] = set()
        """Datagrams whose first fragment has passed."""

    def judge(self, packet: Packet, header: Header, outer: Outer, now: float) -> list[Reply]:
        """Forward it, drop it, or refuse it in words."""
        if packet.piece is not None and not self.fits_in(packet, header):
            return []
        if packet.piece is not None and packet.piece.offset:
            return self.later(packet, header, outer)
        flow = self.known(packet, header, now)
        if flow is None:
            if self.is_error(packet):
                return self.error(packet, header, outer, now)
            verdict = self.verdict(packet, header)
            if verdict != "allow":
                return self.refused(verdict, packet, header, outer)
            flow = self.opened(self.key(packet, header), Flow(header.raw, outer, now))
        flow.last = now
        flow.packets += 1
        self.follow(flow, packet)
        if packet.piece is not None:
            self.passed.add(self.datagram(packet, header))
        return self.replies(flow, packet, header, outer)

    # Fragments.

    def datagram(self, packet: Packet, header: Header) -> Key:
        """What the fragments of a datagram have in common (RFC 791 §3.2)."""
        assert packet.piece is not None
        ends = packet.source, packet.destination, packet.protocol
        return header.endpoint, *ends, packet.piece.identification

    def later(self, packet: Packet, header: Header, outer: Outer) -> list[Reply]:
        """Fragments without ports share the fate of the first."""
        if self.datagram(packet, header) not in self.passed:
            return []
        return self.replies(Flow(header.raw, outer, 0.0), packet, header, outer)

    # Flows.

    def key(self, packet: Packet, header: Header) -> Key:
        """As for every appliance; ICMP echo has its identifier for ports."""
        return super().key(packet._replace(ports=self.ports(packet)), header)

    def ports(self, packet: Packet) -> tuple[int, int]:
        """What tells flows between two hosts apart."""
        if packet.protocol in ECHO and len(packet.body) >= 8:
            identifier = int.from_bytes(packet.body[4:6], "big")
            return identifier, identifier
        return packet.ports

    def known(self, packet: Packet, header: Header, now: float) -> Flow | None:
        """The flow that a packet goes on with; a SYN is judged anew."""
        flow = self.flows.get(self.key(packet, header))
        if flow is None or flow.reset or self.is_over(flow, packet, now):
            return None
        return None if self.opens(packet, flow) else flow

    def opens(self, packet: Packet, flow: Flow | None) -> bool:
        """RFC 9293 §3.5: SYN without ACK."""
        return packet.protocol == TCP and packet.flags & (SYN | ACK | RST) == SYN

    def follow(self, flow: Flow, packet: Packet) -> None:
        """Keep each end's next sequence number; RFC 5961 §3: a RST counts only if it has it."""
        if packet.protocol != TCP or not any(packet.ports):
            return
        known = flow.notes.get(packet.source)
        took = len(packet.data) + bool(packet.flags & SYN) + bool(packet.flags & FIN)
        if packet.flags & RST:
            flow.reset = self.takes_reset(packet, known)
        elif known is None or 0 < packet.sequence + took - known & _MASK < 1 << 31:
            flow.notes[packet.source] = packet.sequence + took & _MASK

    def takes_reset(self, packet: Packet, following: int | None) -> bool:
        """Whether a RST ends its connection."""
        return following is None or packet.sequence == following

    # The policy.

    def verdict(self, packet: Packet, header: Header) -> str:
        """What the policy says of a packet that belongs to no flow."""
        if not self.may_open(packet):
            return "drop"
        return self.decide(packet, self.ports(packet)[1], header.endpoint)

    def may_open(self, packet: Packet) -> bool:
        """Whether a flow can begin with this packet."""
        if packet.protocol == TCP:
            return self.opens(packet, None) and len(packet.body) >= 20
        if packet.protocol == UDP:
            return len(packet.body) >= 8
        if packet.protocol in ECHO:
            return len(packet.body) >= 8 and packet.body[0] == ECHO[packet.protocol]
        return True

    def decide(self, packet: Packet, port: int, endpoint: int) -> str:
        """The first rule that matches, else the default."""
        for rule in self.policy["rules"]:
            if self.matches(rule, packet, port, endpoint):
                return str(rule["action"])
        return str(self.policy["default"])

    def matches(self, rule: Rule, packet: Packet, port: int, endpoint: int) -> bool:
        """Whether a rule is about a packet."""
        return (
            self.matches_protocol(rule, packet)
            and rule["port"] in (0, port)
            and self.is_in(packet.source, rule["source"])
            and self.is_in(packet.destination, rule["destination"])
            and rule["endpoint"] in ("any", f"vpce-{endpoint:017x}")
        )

    def matches_protocol(self, rule: Rule, packet: Packet) -> bool:
        """By the protocol's name: "icmp" is that of either version."""
        return rule["protocol"] == "any" or packet.protocol in _PROTOCOLS[rule["protocol"]]

    def is_in(self, address: bytes, network: str) -> bool:
        """RFC 4632 §3.1."""
        if network == "any":
            return True
        first, bits, size = _network(network)
        if size != len(address):
            return False
        shift = 8 * size - bits
        return int.from_bytes(address, "big") >> shift == first >> shift

    # Saying no.

    def refused(self, verdict: str, packet: Packet, header: Header, outer: Outer) -> list[Reply]:
        """What is sent for a packet that does not pass."""
        if verdict != "reject":
            return []
        made = self.made(packet)
        flow = Flow(header.raw, outer, 0.0)
        return [
            Reply(
                self.reply_source(flow, outer),
                self.reply_to(flow, outer),
                self.refusal_header(header, packet) + one,
            )
            for one in made
        ]

    def refusal_header(self, header: Header, packet: Packet) -> bytes:
        """GWLB takes what comes in the header of a live flow: that of the packet itself."""
        return header.raw

    def made(self, packet: Packet) -> list[bytes]:
        """RFC 9293 §3.10.7.1, RFC 1122 §3.2.2: to TCP a RST, to UDP an error, to others nothing."""
        if packet.protocol == TCP and not packet.flags & RST:
            return [refusals.answer_to_syn(packet)]
        if packet.protocol == UDP:
            return [refusals.prohibited(packet)]
        return []

    # ICMP errors.

    def is_error(self, packet: Packet) -> bool:
        """RFC 792, RFC 4443: they belong to the flow that they quote."""
        return bool(packet.body) and packet.body[0] in ERRORS.get(packet.protocol, ())

    def error(self, packet: Packet, header: Header, outer: Outer, now: float) -> list[Reply]:
        """An error passes to the end that sent what is quoted, if that passed."""
        try:
            quoted = self.quoted(packet)
        except (Unsound, IndexError, struct.error):
            return []
        flow = self.flows.get(self.key(quoted, header))
        if flow is None or quoted.source != packet.destination:
            return []
        return self.replies(flow, packet, header, outer)

    def quoted(self, packet: Packet) -> Packet:
        """The packet in an error, of which only the first bytes are there."""
        raw = packet.body[8:]
        if len(packet.source) == 4:
            size = self.ihl(raw[0])
            read = Packet(raw, raw[9], raw[12:16], raw[16:20], raw[size:], None)
        else:
            protocol, at, _ = self.chain(raw, raw[6], 40, len(raw))
            read = Packet(raw, protocol, raw[8:24], raw[24:40], raw[at:], None)
        if read.protocol in (TCP, UDP):
            return read._replace(ports=struct.unpack_from(">HH", read.body))
        return read


@lru_cache(256)
def _network(text: str) -> tuple[int, int, int]:
    """First address, bits, and bytes of an address."""
    network = ipaddress.ip_network(text)
    return int(network.network_address), network.prefixlen, network.max_prefixlen // 8
