"""Telling the ends of a flow that it is refused: TCP RST, ICMP and ICMPv6 unreachable."""

from __future__ import annotations

from appliance_sdk.wire.buffer import Buffer
from appliance_sdk.wire.build import build_icmp, build_tcp
from appliance_sdk.wire.packet import ACK, FIN, ICMP, ICMPV6, RST, SYN, TCP, Headers

_UNREACHABLE, _ADMIN_PROHIBITED = 3, 13  # RFC 1812 §5.2.7.1
_UNREACHABLE_V6, _ADMIN_PROHIBITED_V6 = 1, 1  # RFC 4443 §3.1
_ICMP_MAX, _ICMPV6_MAX = 576, 1280
_ECHO = {ICMP: (8, 13, 15, 17), ICMPV6: (128,)}
_MASK = 0xFFFFFFFF


def build_tcp_rst(buffer: Buffer, start: int, headers: Headers) -> bytes | None:
    """The RST that answers a segment (RFC 9293 §3.10.7.1), from its destination to its source.

    None where there must be none: for a RST, a fragment other than the first, and multicast.
    """
    if headers.protocol != TCP or headers.flags & RST or not _answerable(headers):
        return None
    if headers.flags & ACK:
        seq, ack, flags = headers.ack, 0, RST
    else:
        length = headers.end - headers.payload
        length += bool(headers.flags & SYN) + bool(headers.flags & FIN)
        seq, ack, flags = 0, (headers.seq + length) & _MASK, RST | ACK
    return build_tcp(
        headers.destination,
        headers.source,
        headers.destination_port,
        headers.source_port,
        seq=seq,
        ack=ack,
        flags=flags,
        window=0,
    )


def build_tcp_rst_to(
    source: bytes,
    destination: bytes,
    source_port: int,
    destination_port: int,
    *,
    seq: int,
    ack: int,
) -> bytes:
    """A RST within a connection; `seq` must be the number that the destination expects next."""
    return build_tcp(
        source,
        destination,
        source_port,
        destination_port,
        seq=seq,
        ack=ack,
        flags=RST | ACK,
        window=0,
    )


def build_unreachable(buffer: Buffer, start: int, headers: Headers) -> bytes | None:
    """The ICMP error that refuses a packet, as if from its destination, quoting its beginning.

    Code 13 or ICMPv6 code 1: communication administratively prohibited. None where there must be
    none (RFC 1122 §3.2.2, RFC 4443 §2.4): for an ICMP message that is no query, a fragment other
    than the first, and multicast or broadcast.
    """
    if not _answerable(headers):
        return None
    if headers.protocol in _ECHO and headers.icmp_type not in _ECHO[headers.protocol]:
        return None
    if headers.version == 4:
        quoted = bytes(buffer[start : min(headers.end, start + _ICMP_MAX - 28)])
        kind, code = _UNREACHABLE, _ADMIN_PROHIBITED
    else:
        quoted = bytes(buffer[start : min(headers.end, start + _ICMPV6_MAX - 48)])
        kind, code = _UNREACHABLE_V6, _ADMIN_PROHIBITED_V6
    return build_icmp(headers.destination, headers.source, kind, code, b"\0\0\0\0" + quoted)


def _answerable(headers: Headers) -> bool:
    return not (
        headers.fragment_offset
        or _is_group(headers.destination)
        or _is_group(headers.source)
        or not any(headers.source)
    )


def _is_group(address: bytes) -> bool:
    if len(address) == 4:
        return address[0] >> 4 >= 0xE
    return address[0] == 0xFF
