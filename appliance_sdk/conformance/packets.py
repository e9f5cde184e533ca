"""Inner packets that no host sends in good faith: options, chains and fragments made by hand."""

from __future__ import annotations

import struct

from appliance_sdk.wire.checksum import checksum


def with_checksum(packet: bytes | bytearray) -> bytes:
    """An IPv4 packet with the header checksum that it should have."""
    fixed = bytearray(packet)
    size = max((fixed[0] & 0x0F) * 4, 20)
    fixed[10:12] = b"\0\0"
    fixed[10:12] = struct.pack(">H", checksum(bytes(fixed[:size])))
    return bytes(fixed)


def numbered(packet: bytes, identification: int) -> bytes:
    """An IPv4 packet with an identification, and without DF: one that may be cut."""
    return with_checksum(packet[:4] + struct.pack(">HH", identification, 0) + packet[8:])


def with_options(packet: bytes, options: bytes) -> bytes:
    """An IPv4 packet without options, with these; their length is a multiple of four."""
    longer = bytearray(packet[:20] + options + packet[20:])
    longer[0] = 0x45 + len(options) // 4
    longer[2:4] = len(longer).to_bytes(2, "big")
    return with_checksum(longer)


def with_extensions(packet: bytes, first: int, headers: bytes) -> bytes:
    """An IPv6 packet with extension headers, the first of this type, in front of its payload."""
    length = struct.unpack_from(">H", packet, 4)[0] + len(headers)
    return packet[:4] + struct.pack(">HB", length, first) + packet[7:40] + headers + packet[40:]


def at_offset(fragment: bytes, offset: int, *, more: bool) -> bytes:
    """An IPv4 fragment moved to another offset, in bytes."""
    word = offset // 8 | (0x2000 if more else 0)
    return with_checksum(fragment[:6] + struct.pack(">H", word) + fragment[8:])
