"""What a host checks before it looks at a packet: checksums, and fragments put together."""

from __future__ import annotations

from typing import NamedTuple

from appliance_sdk.wire import Headers, build_ip, transport_checksum
from appliance_sdk.wire.checksum import checksum
from appliance_sdk.wire.packet import ICMP, ICMPV6, TCP, UDP

_TIMEOUT_S = 30.0
_MAX_PACKETS = 64
_MAX_PARTS = 128
_MAX_PAYLOAD = 0xFFFF - 20


def find_damage(packet: bytes, headers: Headers) -> str:
    """Why a host would not believe this packet's checksums or lengths; "" if it would.

    The reasons: ip_checksum, tcp_checksum, udp_checksum, udp_length, icmp_checksum. Of a fragment
    only the IP header can be checked.
    """
    if headers.version == 4 and checksum(packet[: (packet[0] & 0x0F) << 2]):
        return "ip_checksum"
    if headers.is_fragment:
        return ""
    segment = packet[headers.transport : headers.end]
    ends = headers.source, headers.destination
    if headers.protocol == TCP:
        return "tcp_checksum" if transport_checksum(*ends, TCP, segment) else ""
    if headers.protocol == UDP:
        length = int.from_bytes(segment[4:6], "big")
        if not 8 <= length <= len(segment):
            return "udp_length"
        if segment[6:8] == b"\0\0":
            return "" if headers.version == 4 else "udp_checksum"  # RFC 8200 §8.1
        return "udp_checksum" if transport_checksum(*ends, UDP, segment[:length]) else ""
    if headers.protocol == ICMP:
        return "icmp_checksum" if checksum(segment) else ""
    if headers.protocol == ICMPV6 and headers.version == 6:
        return "icmp_checksum" if transport_checksum(*ends, ICMPV6, segment) else ""
    return ""


class _Part(NamedTuple):
    offset: int
    data: bytes


class _Gathering:
    def __init__(self, now: float) -> None:
        self.since = now
        self.parts: list[_Part] = []
        self.size = -1
        self.protocol = 0


class Fragments:
    """Puts fragments together, at most 64 packets at a time and each within 30 s.

    A packet whose parts overlap or contradict each other is given up as a whole (RFC 5722).
    """

    def __init__(self) -> None:
        self._gathering: dict[tuple[int, bytes, bytes, int, int], _Gathering] = {}

    def __len__(self) -> int:
        return len(self._gathering)

    def add(self, packet: bytes, headers: Headers, now: float) -> bytes | None:
        """Take a fragment; the whole packet if this was the last part missing."""
        protocol = headers.protocol if headers.version == 4 else 0
        key = (
            headers.version,
            headers.source,
            headers.destination,
            protocol,
            headers.fragment_id,
        )
        entry = self._gathering.get(key)
        if entry is None or now - entry.since > _TIMEOUT_S:
            self._gathering.pop(key, None)
            if len(self._gathering) >= _MAX_PACKETS:
                del self._gathering[next(iter(self._gathering))]
            entry = self._gathering[key] = _Gathering(now)
        data = packet[headers.transport : headers.end]
        if not self._fits(entry, headers, data):
            del self._gathering[key]
            return None
        if all(part.offset != headers.fragment_offset for part in entry.parts):
            entry.parts.append(_Part(headers.fragment_offset, data))
        if headers.fragment_offset == 0:
            entry.protocol = headers.protocol
        if sum(len(part.data) for part in entry.parts) != entry.size:
            return None
        del self._gathering[key]
        payload = b"".join(part.data for part in sorted(entry.parts))
        return build_ip(headers.source, headers.destination, entry.protocol, payload)

    def _fits(self, entry: _Gathering, headers: Headers, data: bytes) -> bool:
        start, end = headers.fragment_offset, headers.fragment_offset + len(data)
        if not data or end > _MAX_PAYLOAD or len(entry.parts) >= _MAX_PARTS:
            return False
        if headers.more_fragments and len(data) % 8:
            return False
        if not headers.more_fragments:
            if entry.size not in (-1, end):
                return False
            entry.size = end
        furthest = max((part.offset + len(part.data) for part in entry.parts), default=0)
        if entry.size != -1 and max(furthest, end) > entry.size:
            return False
        return all(
            part == (start, data) or end <= part.offset or part.offset + len(part.data) <= start
            for part in entry.parts
        )
