"""Packets made from nothing: IPv4 and IPv6 around TCP, UDP and ICMP, checksums right."""

from __future__ import annotations

import struct

from appliance_sdk.wire.checksum import checksum, transport_checksum
from appliance_sdk.wire.packet import ICMP, ICMPV6, TCP, UDP

_IPV4 = struct.Struct(">BBHHHBBH4s4s")
_IPV6 = struct.Struct(">IHBB16s16s")
_DONT_FRAGMENT = 0x4000
_FRAGMENT_HEADER = 44


def build_ip(
    source: bytes,
    destination: bytes,
    protocol: int,
    payload: bytes,
    *,
    ttl: int = 64,
    identification: int = 0,
) -> bytes:
    """An IP packet; packed addresses of 4 bytes make it IPv4, of 16 IPv6. Raises ValueError."""
    if len(source) != len(destination) or len(source) not in (4, 16):
        raise ValueError("addresses are two of 4 or two of 16 bytes")
    if len(source) == 16:
        if len(payload) > 0xFFFF:
            raise ValueError("an IPv6 packet carries at most 65,535 bytes")
        return _IPV6.pack(6 << 28, len(payload), protocol, ttl, source, destination) + payload
    if len(payload) > 0xFFFF - 20:
        raise ValueError("an IPv4 packet has at most 65,535 bytes")
    fragment = 0 if identification else _DONT_FRAGMENT
    header = bytearray(
        _IPV4.pack(
            0x45,
            0,
            20 + len(payload),
            identification,
            fragment,
            ttl,
            protocol,
            0,
            source,
            destination,
        )
    )
    header[10:12] = checksum(header).to_bytes(2, "big")
    return bytes(header) + payload


def build_tcp(
    source: bytes,
    destination: bytes,
    source_port: int,
    destination_port: int,
    *,
    seq: int = 0,
    ack: int = 0,
    flags: int = 0,
    window: int = 65535,
    payload: bytes = b"",
    options: bytes = b"",
    ttl: int = 64,
) -> bytes:
    """A TCP segment in an IP packet; `options` are padded with NOPs. Raises ValueError."""
    options += b"\x01" * (-len(options) % 4)
    if len(options) > 40:
        raise ValueError("TCP options have at most 40 bytes")
    header = bytearray(
        struct.pack(
            ">HHIIBBHHH",
            source_port,
            destination_port,
            seq & 0xFFFFFFFF,
            ack & 0xFFFFFFFF,
            (20 + len(options)) << 2,
            flags,
            window,
            0,
            0,
        )
    )
    segment = header + options + payload
    segment[16:18] = transport_checksum(source, destination, TCP, segment).to_bytes(2, "big")
    return build_ip(source, destination, TCP, bytes(segment), ttl=ttl)


def build_udp(
    source: bytes,
    destination: bytes,
    source_port: int,
    destination_port: int,
    *,
    payload: bytes = b"",
    ttl: int = 64,
    identification: int = 0,
) -> bytes:
    """A UDP datagram in an IP packet. Raises ValueError."""
    length = 8 + len(payload)
    if length > 0xFFFF:
        raise ValueError("a UDP datagram has at most 65,535 bytes")
    datagram = struct.pack(">HHHH", source_port, destination_port, length, 0) + payload
    total = transport_checksum(source, destination, UDP, datagram) or 0xFFFF  # RFC 768
    datagram = datagram[:6] + total.to_bytes(2, "big") + payload
    return build_ip(source, destination, UDP, datagram, ttl=ttl, identification=identification)


def build_icmp(
    source: bytes, destination: bytes, type: int, code: int, body: bytes, *, ttl: int = 64
) -> bytes:
    """An ICMP (IPv4) or ICMPv6 message; `body` is what follows the checksum."""
    message = bytes((type, code, 0, 0)) + body
    if len(source) == 16:
        protocol, total = ICMPV6, transport_checksum(source, destination, ICMPV6, message)
    else:
        protocol, total = ICMP, checksum(message)
    message = message[:2] + total.to_bytes(2, "big") + body
    return build_ip(source, destination, protocol, message, ttl=ttl)


def fragment_packet(packet: bytes, mtu: int) -> list[bytes]:
    """Cut a packet without options or extension headers into fragments of at most `mtu` bytes.

    Raises ValueError if the MTU leaves no room for eight bytes of payload, or on IPv4 options.
    """
    if mtu < (56 if packet[0] >> 4 == 6 else 28):
        raise ValueError(f"an MTU of {mtu} bytes has no room for a fragment")
    if packet[0] >> 4 == 4 and packet[0] != 0x45:
        raise ValueError("packets with IPv4 options are not cut")
    if packet[0] >> 4 == 6:
        return _fragment_ipv6(packet, mtu)
    size = (mtu - 20) // 8 * 8
    body = packet[20:]
    fragments = []
    for at in range(0, len(body), size):
        part = body[at : at + size]
        header = bytearray(packet[:20])
        header[2:4] = (20 + len(part)).to_bytes(2, "big")
        more = 0x2000 if at + size < len(body) else 0
        header[6:8] = (more | at >> 3).to_bytes(2, "big")
        header[10:12] = b"\0\0"
        header[10:12] = checksum(header).to_bytes(2, "big")
        fragments.append(bytes(header) + part)
    return fragments


def _fragment_ipv6(packet: bytes, mtu: int) -> list[bytes]:
    size = (mtu - 48) // 8 * 8
    body = packet[40:]
    identification = checksum(body)
    fragments = []
    for at in range(0, len(body), size):
        part = body[at : at + size]
        more = 1 if at + size < len(body) else 0
        extension = struct.pack(">BBHI", packet[6], 0, at | more, identification)
        header = packet[:4] + (8 + len(part)).to_bytes(2, "big") + bytes((_FRAGMENT_HEADER,))
        fragments.append(header + packet[7:40] + extension + part)
    return fragments
