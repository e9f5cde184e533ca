"""ICMP and ICMPv6 as hosts need them: echo, the errors they send, the errors they understand."""

from __future__ import annotations

from typing import NamedTuple

from appliance_sdk.errors import MalformedPacket
from appliance_sdk.wire import Headers, build_icmp, build_unreachable, parse_quoted
from appliance_sdk.wire.packet import ICMP, ICMPV6

ECHO_REQUEST = {4: 8, 6: 128}
ECHO_REPLY = {4: 0, 6: 129}
_UNREACHABLE = {4: 3, 6: 1}
_PORT_UNREACHABLE = {4: 3, 6: 4}
_FRAGMENTATION_NEEDED, _PACKET_TOO_BIG = (3, 4), (2, 0)
_HEADER = {4: 20, 6: 40}


class Notice(NamedTuple):
    """What an ICMP error says about a packet that this host sent."""

    kind: int
    code: int
    mtu: int
    """The largest packet that would have passed, 0 if it is not about size."""
    protocol: int
    source: bytes
    destination: bytes
    source_port: int
    destination_port: int
    number: int
    """The quoted TCP sequence number; of an echo request, identifier and sequence number."""


def read_notice(packet: bytes, headers: Headers) -> Notice | None:
    """The error in an ICMP message whose headers were parsed; None if it is none of those used:
    destination unreachable, fragmentation needed and packet too big."""
    kind, code = headers.icmp_type, headers.icmp_code
    too_big = (kind, code) == (_FRAGMENTATION_NEEDED if headers.version == 4 else _PACKET_TOO_BIG)
    if not too_big and kind != _UNREACHABLE[headers.version]:
        return None
    body = headers.transport + 4
    mtu = int.from_bytes(packet[body : body + 4], "big") if too_big else 0
    try:
        quoted = parse_quoted(packet, body + 4, headers.end)
    except MalformedPacket:
        return None
    number = packet[quoted.transport + 4 : min(quoted.transport + 8, headers.end)]
    if (quoted.is_fragment and quoted.fragment_offset) or len(number) < 4:
        return None
    return Notice(
        kind,
        code,
        mtu & 0xFFFF if headers.version == 4 else mtu,
        quoted.protocol,
        quoted.source,
        quoted.destination,
        quoted.source_port,
        quoted.destination_port,
        int.from_bytes(number, "big"),
    )


def build_echo(
    source: bytes, destination: bytes, identifier: int, sequence: int, data: bytes
) -> bytes:
    """An echo request."""
    body = identifier.to_bytes(2, "big") + sequence.to_bytes(2, "big") + data
    return build_icmp(source, destination, 8 if len(source) == 4 else 128, 0, body)


def build_echo_reply(packet: bytes, headers: Headers) -> bytes:
    """The answer to an echo request, with everything that came in it."""
    body = packet[headers.transport + 4 : headers.end]
    kind = ECHO_REPLY[headers.version]
    return build_icmp(headers.destination, headers.source, kind, 0, body)


def build_port_unreachable(packet: bytes, headers: Headers) -> bytes | None:
    """The error for a datagram to a closed port (RFC 1122 §4.1.3.1, RFC 4443 §3.1); None where
    there must be none."""
    error = build_unreachable(packet, 0, headers)
    if error is None:
        return None
    version = headers.version
    kind, code = _UNREACHABLE[version], _PORT_UNREACHABLE[version]
    body = error[_HEADER[version] + 4 :]
    return build_icmp(headers.destination, headers.source, kind, code, body)


def is_icmp(headers: Headers) -> bool:
    """Whether it is the ICMP of its IP version."""
    return headers.protocol == (ICMP if headers.version == 4 else ICMPV6)
