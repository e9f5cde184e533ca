"""What an internet gateway does to IPv4 packets: another address, checksums kept right."""

from __future__ import annotations

from appliance_sdk.wire import Headers, parse_packet, update_checksum
from appliance_sdk.wire.checksum import checksum
from appliance_sdk.wire.packet import ICMP, TCP, UDP

_SOURCE, _DESTINATION = 12, 16
_CHECKSUM_AT = {TCP: 16, UDP: 6}
_ICMP_ERRORS = (3, 4, 5, 11, 12)


def translate_source(packet: bytes, new: bytes) -> bytes:
    """The packet with another source address; in a quoted packet its destination (RFC 5508 §4)."""
    return _translate(packet, new, _SOURCE, _DESTINATION)


def translate_destination(packet: bytes, new: bytes) -> bytes:
    """The packet with another destination address; in a quoted packet its source."""
    return _translate(packet, new, _DESTINATION, _SOURCE)


def _translate(packet: bytes, new: bytes, at: int, quoted_at: int) -> bytes:
    headers = parse_packet(packet, 0, len(packet))
    out = bytearray(packet)
    _replace(out, 0, headers, at, new)
    if headers.protocol == ICMP and headers.icmp_type in _ICMP_ERRORS:
        quoted = headers.payload
        old = bytes(packet[at : at + 4])
        if headers.end - quoted >= 20 and out[quoted + quoted_at :][:4] == old:
            out[quoted + quoted_at : quoted + quoted_at + 4] = new
            out[quoted + 10 : quoted + 12] = b"\0\0"
            length = (out[quoted] & 0x0F) << 2
            total = checksum(out[quoted : quoted + length])
            out[quoted + 10 : quoted + 12] = total.to_bytes(2, "big")
            out[headers.transport + 2 : headers.transport + 4] = b"\0\0"
            total = checksum(out[headers.transport : headers.end])
            out[headers.transport + 2 : headers.transport + 4] = total.to_bytes(2, "big")
    return bytes(out)


def _replace(out: bytearray, start: int, headers: Headers, at: int, new: bytes) -> None:
    old = bytes(out[start + at : start + at + 4])
    out[start + at : start + at + 4] = new
    _update(out, start + 10, old, new)
    place = _CHECKSUM_AT.get(headers.protocol)
    if place is None or headers.fragment_offset:
        return
    where = headers.transport + place
    if headers.protocol == UDP and out[where : where + 2] == b"\0\0":
        return  # no checksum (RFC 768)
    _update(out, where, old, new)
    if headers.protocol == UDP and out[where : where + 2] == b"\0\0":
        out[where : where + 2] = b"\xff\xff"


def _update(out: bytearray, at: int, old: bytes, new: bytes) -> None:
    value = int.from_bytes(out[at : at + 2], "big")
    out[at : at + 2] = update_checksum(value, old, new).to_bytes(2, "big")
