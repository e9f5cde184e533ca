"""Changing a packet in place without changing its length, checksums kept right."""

from __future__ import annotations

from appliance_sdk.wire.checksum import checksum, update_checksum
from appliance_sdk.wire.packet import ICMP, ICMPV6, SYN, TCP, UDP, URG, Headers

_CHECKSUM_AT = {TCP: 16, UDP: 6, ICMP: 2, ICMPV6: 2}
_END_OF_OPTIONS, _NOP, _MSS = 0, 1, 2


def patch_payload(packet: bytearray, headers: Headers, offset: int, new: bytes) -> None:
    """Overwrite payload bytes from `offset` on. `headers` were parsed from this bytearray.

    Raises ValueError if the payload does not reach that far: its length cannot change. The checksum
    of a fragmented packet lies in its first fragment, so patching another leaves it wrong.
    """
    if offset < 0 or headers.payload + offset + len(new) > headers.end:
        raise ValueError(f"{len(new)} bytes at {offset} reach beyond the payload")
    _replace(packet, headers, headers.payload + offset, new)


def clamp_mss(packet: bytearray, headers: Headers, mss: int) -> bool:
    """Lower the MSS option of a TCP SYN to `mss`; whether there was anything to lower."""
    if headers.protocol != TCP or not headers.flags & SYN:
        return False  # RFC 9293 §3.7.1: the option counts in a SYN only
    at, end = headers.transport + 20, headers.payload
    while at < end:
        kind = packet[at]
        if kind == _END_OF_OPTIONS:
            return False
        if kind == _NOP:
            at += 1
            continue
        if at + 1 >= end or packet[at + 1] < 2:
            return False
        if kind == _MSS and packet[at + 1] == 4 and at + 4 <= end:
            if int.from_bytes(packet[at + 2 : at + 4], "big") <= mss:
                return False
            _replace(packet, headers, at + 2, mss.to_bytes(2, "big"))
            return True
        at += packet[at + 1]
    return False


def clear_urgent(packet: bytearray, headers: Headers) -> None:
    """Make urgent data ordinary: the URG flag and the urgent pointer of a TCP segment become 0."""
    flags = packet[headers.transport + 13] & ~URG
    _replace(
        packet, headers, headers.transport + 12, bytes((packet[headers.transport + 12], flags))
    )
    _replace(packet, headers, headers.transport + 18, b"\0\0")


def _replace(packet: bytearray, headers: Headers, at: int, new: bytes) -> None:
    """Overwrite bytes behind the transport header's beginning and update its checksum."""
    # Even offsets only: the sum is made of 16-bit words counted from the transport header.
    low = at - (at - headers.transport) % 2
    high = at + len(new)
    high += (high - headers.transport) % 2
    high = min(high, _checked_end(packet, headers))
    before = bytes(packet[low:high])
    packet[at : at + len(new)] = new
    after = bytes(packet[low:high])
    field = _CHECKSUM_AT.get(headers.protocol)
    if field is None or headers.fragment_offset:
        return
    place = headers.transport + field
    old = int.from_bytes(packet[place : place + 2], "big")
    if headers.protocol == UDP and old == 0:
        return  # RFC 768, RFC 6935: no checksum was made, and none must appear
    total = update_checksum(old, before, after)
    if headers.protocol == UDP and total == 0:
        total = 0xFFFF
    packet[place : place + 2] = total.to_bytes(2, "big")


def _checked_end(packet: bytearray, headers: Headers) -> int:
    """Where the checksum's bytes end; a UDP length may say less than the IP length."""
    if headers.protocol != UDP or headers.is_fragment:
        return headers.end
    length = int.from_bytes(packet[headers.transport + 4 : headers.transport + 6], "big")
    return min(headers.end, headers.transport + length) if length >= 8 else headers.end


def fix_ipv4_checksum(packet: bytearray, start: int = 0) -> None:
    """Compute the IPv4 header checksum of the packet at `start` anew."""
    end = start + ((packet[start] & 0x0F) << 2)
    packet[start + 10 : start + 12] = b"\0\0"
    packet[start + 10 : start + 12] = checksum(packet[start:end]).to_bytes(2, "big")
