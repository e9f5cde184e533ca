"""Packets that an appliance makes itself: resets and ICMP errors, held against their RFCs."""

from __future__ import annotations

from typing import NamedTuple

from appliance_sdk.conformance.compare import Reply, encapsulation_differences, without_ttl
from appliance_sdk.conformance.conversation import Datagram
from appliance_sdk.conformance.rig import Rig, expect
from appliance_sdk.errors import MalformedPacket
from appliance_sdk.wire.checksum import checksum, transport_checksum
from appliance_sdk.wire.packet import ACK, FIN, ICMPV6, RST, SYN, TCP, Headers, parse_packet

_MASK = 0xFFFFFFFF
_REFUSALS = {1: (3, (1, 2, 3, 9, 10, 13)), ICMPV6: (1, (1, 4, 5, 6))}
"""Type, and the codes that refuse: of ICMP (RFC 792, RFC 1812 §5.2.7.1) and ICMPv6 (RFC 4443
§3.1)."""


class Made(NamedTuple):
    """One packet of the appliance's own."""

    packet: bytes
    headers: Headers
    """Of `packet`, which begins at 0."""

    def goes_to(self, address: bytes) -> bool:
        """Whether this is its destination."""
        return self.headers.destination == address


def read_made(rig: Rig, trigger: Datagram, reply: Reply) -> Made:
    """A packet made in answer to `trigger`, in whose encapsulation it must come, with right
    lengths and checksums. Raises NotConformant."""
    node, address = rig.wire.nodes[trigger.node], rig.wire.addresses[trigger.address]
    wrong = encapsulation_differences(trigger, reply, node, address)
    expect(not wrong, "what the appliance sent of its own: " + "; ".join(wrong))
    packet = reply.payload[len(trigger.header) :]
    try:
        headers = parse_packet(packet, 0, len(packet))
    except MalformedPacket as error:
        expect(False, f"what the appliance sent of its own is no packet: {error}")
        raise AssertionError from error
    expect(headers.end == len(packet), "its own packet has another length than it says")
    if headers.version == 4:
        header = packet[: (packet[0] & 0x0F) * 4]
        expect(not checksum(header), "its own packet has a wrong IPv4 header checksum")
    segment = packet[headers.transport :]
    if headers.protocol == 1:
        right = not checksum(segment)
    else:
        ends = headers.source, headers.destination
        right = not transport_checksum(*ends, headers.protocol, segment)
    expect(right, "its own packet has a wrong TCP or ICMP checksum")
    expect(headers.ttl > 0, "its own packet has no TTL left")
    return Made(packet, headers)


def check_reset(trigger: Datagram, made: Made) -> None:
    """A RST to whoever sent `trigger`, with the numbers of RFC 9293 §3.10.7.1."""
    asked = parse_packet(trigger.inner, 0, len(trigger.inner))
    check_reset_between(
        made,
        (asked.destination, asked.source, asked.destination_port, asked.source_port),
    )
    got = made.headers
    if asked.flags & ACK:
        expect(got.seq == asked.ack, f"RST with sequence number {got.seq}, expected {asked.ack}")
        return
    length = asked.end - asked.payload + bool(asked.flags & SYN) + bool(asked.flags & FIN)
    ack = (asked.seq + length) & _MASK
    expect(bool(got.flags & ACK), "RST without ACK, in answer to a segment without one")
    expect(got.seq == 0, f"RST with sequence number {got.seq}, expected 0")
    expect(got.ack == ack, f"RST acknowledges {got.ack}, expected {ack}")


def check_reset_between(made: Made, ends: tuple[bytes, bytes, int, int]) -> None:
    """A RST and nothing else, from and to these addresses and ports."""
    got = made.headers
    expect(got.protocol == TCP and bool(got.flags & RST), "the answer to TCP is no RST")
    expect(not got.flags & (SYN | FIN), f"a RST with flags 0x{got.flags:02x}")
    expect(got.end == got.payload, "a RST with data")
    there = (got.source, got.destination, got.source_port, got.destination_port)
    expect(there == ends, "a RST with other addresses or ports than the connection has")


def check_refusal(trigger: Datagram, made: Made) -> None:
    """An ICMP error to whoever sent `trigger`, that refuses and quotes it."""
    asked = parse_packet(trigger.inner, 0, len(trigger.inner))
    got = made.headers
    expect(got.protocol in _REFUSALS, "the answer is no ICMP error")
    expect((got.protocol == ICMPV6) is (asked.version == 6), "ICMP of the other IP version")
    kind, codes = _REFUSALS[got.protocol]
    refuses = got.icmp_type == kind and got.icmp_code in codes
    expect(refuses, f"ICMP type {got.icmp_type} code {got.icmp_code} is no refusal")
    expect(made.goes_to(asked.source), "the ICMP error does not go to the sender")
    quoted = made.packet[got.transport + 8 :]
    least = asked.transport + 8
    expect(len(quoted) >= least, f"the ICMP error quotes {len(quoted)} bytes, not {least} or more")
    same = without_ttl(quoted) == without_ttl(trigger.inner[: len(quoted)])
    expect(same, "the ICMP error quotes another packet")
    if asked.version == 6:
        expect(len(made.packet) <= 1280, f"an ICMPv6 error of {len(made.packet)} bytes")
