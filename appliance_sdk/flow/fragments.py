"""Fragments: each shares the fate of the first one, and the last to come is judged as the whole.

Fragments are forwarded as they come; copies are kept so that the packet which the last one
completes can be inspected. Dropping that one keeps the receiver from ever completing it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import msgspec

from appliance_sdk.wire.buffer import Buffer
from appliance_sdk.wire.checksum import checksum
from appliance_sdk.wire.packet import TCP, Headers

_MAX_PACKET = 65535
_TCP_MINIMUM = 20
_KeyT = tuple[int, bytes, bytes, int, int]


class FragmentLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds of all incomplete datagrams together."""

    datagrams: int = 1024
    per_datagram: int = 64
    """Fragments of one datagram: 64 kB on a link of 1,280 bytes take 53."""
    total_bytes: int = 16 * 1024 * 1024
    timeout_s: float = 60
    """Receivers wait 30 (Linux) to 60 s (RFC 8200 §4.5); who forgets before them would judge the
    fragments of two datagrams that they put together."""


class Entry:
    """One incomplete datagram. The engine sets `owner` and `drop` when the first part came."""

    __slots__ = (
        "bad",
        "deadline",
        "drop",
        "head",
        "key",
        "owner",
        "parts",
        "protocol",
        "size",
        "total",
    )

    def __init__(self, deadline: float, key: _KeyT) -> None:
        self.key = key
        self.owner: Any = None
        self.drop = False
        self.bad = False
        self.deadline = deadline
        self.head = b""
        """The headers before the fragmented part, of the first fragment."""
        self.protocol = 0
        self.parts: dict[int, bytes] = {}
        self.size = 0
        self.total = -1
        """Bytes of the fragmented part, -1 until the last fragment came."""


class Fragment(NamedTuple):
    """What came of a fragment: a `reason` to drop it, or its datagram; `whole` if complete now."""

    reason: str
    entry: Entry
    whole: bytes | None = None


class FragmentTable:
    """Incomplete datagrams, oldest first."""

    def __init__(self, limits: FragmentLimits | None = None) -> None:
        self._limits = limits if limits is not None else FragmentLimits()
        self._entries: OrderedDict[_KeyT, Entry] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(
        self, endpoint_id: int, headers: Headers, buffer: Buffer, start: int, now: float
    ) -> Fragment:
        """A fragment with its parsed headers; the packet begins at `start`."""
        key = (
            endpoint_id,
            headers.source,
            headers.destination,
            headers.fragment_id,
            # RFC 791: the protocol is part of an IPv4 datagram's name, RFC 8200: not of IPv6.
            headers.protocol if headers.version == 4 else -1,
        )
        entry = self._entries.get(key)
        if entry is None:
            entry = Entry(now + self._limits.timeout_s, key)
            if headers.fragment_offset:
                return Fragment("fragment_before_first", entry)
            if len(self._entries) >= self._limits.datagrams:
                return Fragment("fragment_table_full", entry)
            self._entries[key] = entry
        reason = "fragment_overlap" if entry.bad else self._take(entry, headers, buffer, start)
        if reason:
            self._spoil(entry)
            return Fragment(reason, entry)
        if entry.total < 0 or entry.size < entry.total:
            return Fragment("", entry)
        whole = _whole(entry)
        del self._entries[key]
        self._bytes -= entry.size
        return Fragment("", entry, whole)

    def refuse(self, entry: Entry) -> None:
        """The completed datagram is dropped: nothing may go by under its name for a while.

        Its receiver holds all of it but one fragment, and would put whatever comes next to those.
        """
        entry.parts = {}
        entry.size = 0
        entry.bad = True
        self._entries.setdefault(entry.key, entry)

    def expire(self, now: float) -> int:
        """Forget datagrams that were never completed; how many."""
        gone = 0
        while self._entries:
            key, entry = next(iter(self._entries.items()))
            if entry.deadline > now:
                break
            del self._entries[key]
            self._bytes -= entry.size
            gone += 1
        return gone

    def _take(self, entry: Entry, headers: Headers, buffer: Buffer, start: int) -> str:
        """Copy a fragment's bytes into its datagram; a reason if it must not be taken."""
        offset = headers.fragment_offset
        data = bytes(buffer[headers.transport : headers.end])
        end = offset + len(data)
        if headers.more_fragments and (len(data) % 8 or not data):
            return "fragment_tiny"
        if not offset and headers.protocol == TCP and len(data) < _TCP_MINIMUM:
            return "fragment_tiny"
        if offset == 8 and headers.protocol == TCP:
            return "fragment_tiny"  # RFC 1858 §3: it would rewrite the flags
        if end + headers.transport - start > _MAX_PACKET:
            return "fragment_too_big"
        # RFC 5722: any overlap condemns the datagram; the same here for IPv4.
        for at, part in entry.parts.items():
            if at < end and offset < at + len(part):
                return "fragment_overlap"
        if entry.total >= 0 and (end > entry.total or not headers.more_fragments):
            return "fragment_overlap"
        if not headers.more_fragments:
            if any(at + len(part) > end for at, part in entry.parts.items()):
                return "fragment_overlap"
            entry.total = end
        limits = self._limits
        if len(entry.parts) >= limits.per_datagram or self._bytes + len(data) > limits.total_bytes:
            return "fragment_table_full"
        if not offset:
            entry.head = bytes(buffer[start : headers.transport])
            entry.protocol = headers.protocol
        entry.parts[offset] = data
        entry.size += len(data)
        self._bytes += len(data)
        return ""

    def _spoil(self, entry: Entry) -> None:
        entry.bad = True
        self._bytes -= entry.size
        entry.size = 0
        entry.parts = {}


def _whole(entry: Entry) -> bytes:
    """The packet as it was before it was cut."""
    body = b"".join(part for _, part in sorted(entry.parts.items()))
    head = bytearray(entry.head)
    if head[0] >> 4 == 4:
        head[2:4] = (len(head) + len(body)).to_bytes(2, "big")
        head[6:8] = b"\0\0"
        head[10:12] = b"\0\0"
        head[10:12] = checksum(head).to_bytes(2, "big")
        return bytes(head) + body
    # The fragment header is the last eight bytes; what names it is told the upper layer instead.
    at, next_header = 40, 6
    while at < len(head) - 8:
        next_header, at = at, at + ((head[at + 1] + 1) << 3)
    head[next_header] = head[len(head) - 8]
    del head[-8:]
    head[4:6] = (len(head) - 40 + len(body)).to_bytes(2, "big")
    return bytes(head) + body
