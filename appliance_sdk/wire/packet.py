"""The inner packet's headers: IPv4 and IPv6 with their options and chains, TCP, UDP, ICMP."""

from __future__ import annotations

import struct
from typing import NamedTuple, TypeAlias

from appliance_sdk.errors import MalformedPacket
from appliance_sdk.wire.buffer import Buffer

FIN, SYN, RST, PSH, ACK, URG = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58

_IPV4 = struct.Struct(">BxHHHBBxx4s4s")
_IPV6 = struct.Struct(">IHBB16s16s")
_PORTS = struct.Struct(">HH")
_TCP = struct.Struct(">HHIIBBH")
_FRAGMENT_HEADER = struct.Struct(">BxHI")
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION = 0, 43, 44, 60
_MOBILITY, _HIP, _SHIM6 = 135, 139, 140
_PLAIN_EXTENSIONS = frozenset((_HOP_BY_HOP, _ROUTING, _DESTINATION, _MOBILITY, _HIP, _SHIM6))
_MAX_EXTENSIONS = 16


class Headers(NamedTuple):
    """The headers of one packet. Offsets count in the buffer that was parsed.

    Where a protocol has no such field: ports, numbers and flags are 0, ICMP type and code -1. Of a
    fragment other than the first, no transport header is read.
    """

    version: int
    protocol: int
    """The upper layer's number, after every IPv6 extension header that can be read."""
    source: bytes
    destination: bytes
    source_port: int
    destination_port: int
    transport: int
    """Offset of the transport header."""
    payload: int
    """Offset of the bytes after the transport header."""
    end: int
    """End of the packet by its own length; what comes after is not part of it."""
    ttl: int
    fragment_id: int
    fragment_offset: int
    """In bytes."""
    more_fragments: bool
    seq: int
    ack: int
    flags: int
    window: int
    icmp_type: int
    icmp_code: int

    @property
    def is_fragment(self) -> bool:
        """A part of a packet; an IPv6 atomic fragment (RFC 6946) is a whole one."""
        return self.more_fragments or self.fragment_offset > 0

    @property
    def is_first_fragment(self) -> bool:
        """The part that holds the transport header."""
        return self.more_fragments and self.fragment_offset == 0


_Network: TypeAlias = tuple[int, bytes, bytes, int, int, int, int, int, bool]
"""What both versions have: protocol, source, destination, transport, end, ttl, fragment id, offset
and more. A bare tuple, taken apart at once: this runs for every packet."""


def parse_packet(buffer: Buffer, start: int, end: int) -> Headers:
    """Read the packet at `start`; at most the bytes before `end`. Raises MalformedPacket."""
    version = buffer[start] >> 4 if end > start else 0
    protocol, source, destination, transport, stop, ttl, fragment_id, fragment_offset, more = (
        _parse_ipv4(buffer, start, end, True)
        if version == 4
        else _parse_other(buffer, start, end, True)
    )
    size = stop - transport
    source_port = destination_port = seq = ack = flags = window = 0
    icmp_type = icmp_code = -1
    payload = transport
    if fragment_offset == 0:
        if protocol == TCP:
            if size < 20:
                raise MalformedPacket("tcp_truncated")
            source_port, destination_port, seq, ack, offset, flags, window = _TCP.unpack_from(
                buffer, transport
            )
            payload += offset >> 4 << 2
            if offset < 0x50 or payload > stop:
                raise MalformedPacket("tcp_offset")
        elif protocol == UDP:
            if size < 8:
                raise MalformedPacket("udp_truncated")
            source_port, destination_port = _PORTS.unpack_from(buffer, transport)
            payload += 8
        elif protocol in (ICMP, ICMPV6):
            if size < 4:
                raise MalformedPacket("icmp_truncated")
            icmp_type, icmp_code = buffer[transport], buffer[transport + 1]
            payload += min(8, size)
    # Twice as fast as calling Headers, which is a Python function around this.
    return tuple.__new__(
        Headers,
        (
            version,
            protocol,
            source,
            destination,
            source_port,
            destination_port,
            transport,
            payload,
            stop,
            ttl,
            fragment_id,
            fragment_offset,
            more,
            seq,
            ack,
            flags,
            window,
            icmp_type,
            icmp_code,
        ),
    )


def parse_quoted(buffer: Buffer, start: int, end: int) -> Headers:
    """Read the beginning of a packet that an ICMP error quotes: addresses, protocol, ports.

    The quoted packet may be cut off anywhere after its first eight transport bytes (RFC 792).
    Raises MalformedPacket.
    """
    version = buffer[start] >> 4 if end > start else 0
    read = _parse_ipv4 if version == 4 else _parse_other
    protocol, source, destination, transport, stop, ttl, fragment_id, fragment_offset, more = read(
        buffer, start, end, False
    )
    source_port = destination_port = 0
    if protocol in (TCP, UDP) and fragment_offset == 0:
        if stop - transport < 4:
            raise MalformedPacket("ip_truncated")
        source_port, destination_port = _PORTS.unpack_from(buffer, transport)
    return Headers(
        version,
        protocol,
        source,
        destination,
        source_port,
        destination_port,
        transport,
        transport,
        stop,
        ttl,
        fragment_id,
        fragment_offset,
        more,
        0,
        0,
        0,
        0,
        -1,
        -1,
    )


def _parse_ipv4(buffer: Buffer, start: int, end: int, whole: bool) -> _Network:
    if end - start < 20:
        raise MalformedPacket("ip_truncated")
    first, total, identification, fragment, ttl, protocol, source, destination = _IPV4.unpack_from(
        buffer, start
    )
    header = (first & 0x0F) << 2
    if header < 20:
        raise MalformedPacket("ip_header_length")
    if total < header:
        raise MalformedPacket("ip_total_length")
    if total > end - start:
        if whole:
            raise MalformedPacket("ip_truncated")
        total = end - start
        if total < header:
            raise MalformedPacket("ip_truncated")
    return (
        protocol,
        source,
        destination,
        start + header,
        start + total,
        ttl,
        identification,
        (fragment & 0x1FFF) << 3,
        bool(fragment & 0x2000),
    )


def _parse_other(buffer: Buffer, start: int, end: int, whole: bool) -> _Network:
    """IPv6 with its chain, or nothing that is IP."""
    if end <= start:
        raise MalformedPacket("ip_truncated")
    if buffer[start] >> 4 != 6:
        raise MalformedPacket("inner_version")
    if end - start < 40:
        raise MalformedPacket("ip_truncated")
    _first, length, protocol, ttl, source, destination = _IPV6.unpack_from(buffer, start)
    if length == 0 and protocol == _HOP_BY_HOP:
        raise MalformedPacket("ipv6_jumbogram")  # RFC 2675 §3
    stop = start + 40 + length
    if stop > end:
        if whole:
            raise MalformedPacket("ip_truncated")
        stop = end
    at = start + 40
    fragment_id = fragment_offset = 0
    more = fragmented = False
    for _ in range(_MAX_EXTENSIONS):
        if protocol in _PLAIN_EXTENSIONS:
            if stop - at < 8:
                raise MalformedPacket("ipv6_chain")
            protocol, units = buffer[at], buffer[at + 1]
            at += (units + 1) << 3  # RFC 8200 §4.3
        elif protocol == _FRAGMENT:
            # A second one would hide the first, whose rest is then no fragment to us but is to the
            # receiver; RFC 8200 §4.1 has each header once.
            if stop - at < 8 or fragmented:
                raise MalformedPacket("ipv6_chain")
            fragmented = True
            protocol, field, fragment_id = _FRAGMENT_HEADER.unpack_from(buffer, at)
            fragment_offset, more = field & 0xFFF8, bool(field & 1)
            at += 8
            if fragment_offset:
                break  # what follows is the middle of something
        else:
            break
        if at > stop:
            raise MalformedPacket("ipv6_chain")
    else:
        raise MalformedPacket("ipv6_chain")
    return (
        protocol,
        source,
        destination,
        at,
        stop,
        ttl,
        fragment_id,
        fragment_offset,
        more,
    )
