"""Writing pcapng: packets of several interfaces in one file, with what there is to say about them.

Source: draft-ietf-opsawg-pcapng §3 and §4. pcap has one interface a file and no comments.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

Towards: TypeAlias = Literal["", "in", "out"]
"""Whether an interface received a packet, sent it, or nobody knows."""

_SECTION, _INTERFACE, _ENHANCED = 0x0A0D0D0A, 1, 6
_BYTE_ORDER = 0x1A2B3C4D
_COMMENT, _END = 1, 0
_USER_APPLICATION = 4
_IF_NAME, _IF_DESCRIPTION, _IF_TSRESOL = 2, 3, 9
_FLAGS, _PACKET_ID = 2, 5
_TOWARDS_BITS: dict[Towards, int] = {"": 0, "in": 1, "out": 2}
_LONGEST_TEXT = 0xFFFF // 4 * 4 - 4
_NS = 1_000_000_000


class Writable(Protocol):
    """Where a capture goes; what `write` raises comes through."""

    def write(self, data: bytes, /) -> object:
        """Take all of it."""


class PcapngWriter:
    """Each method writes one whole block; interfaces may be added between packets."""

    def __init__(self, file: Writable, *, application: str = "", comment: str = "") -> None:
        self._file = file
        self._interfaces = 0
        options = _text(_COMMENT, comment) + _text(_USER_APPLICATION, application)
        # A length of -1: nobody knows yet how long the section will be.
        self._block(_SECTION, struct.pack("<IHHq", _BYTE_ORDER, 1, 0, -1), options)

    def interface(self, name: str, linktype: int, *, description: str = "") -> int:
        """Describe one more interface; its number."""
        options = _text(_IF_NAME, name) + _text(_IF_DESCRIPTION, description)
        options += _option(_IF_TSRESOL, b"\x09")  # nanoseconds
        self._block(_INTERFACE, struct.pack("<HHI", linktype, 0, 0), options)
        self._interfaces += 1
        return self._interfaces - 1

    def packet(
        self,
        interface: int,
        timestamp: float,
        packet: bytes,
        *,
        towards: Towards = "",
        number: int = 0,
        comments: Sequence[str] = (),
    ) -> None:
        """One packet of an interface that was described, `timestamp` in seconds since the epoch.

        `number` is the same for one packet on several interfaces.
        """
        seconds = int(timestamp)
        ticks = max(seconds * _NS + round((timestamp - seconds) * _NS), 0)
        size = len(packet)
        head = struct.pack("<IIIII", interface, ticks >> 32, ticks & 0xFFFFFFFF, size, size)
        options = b"".join(_text(_COMMENT, comment) for comment in comments)
        if towards:
            options += _option(_FLAGS, struct.pack("<I", _TOWARDS_BITS[towards]))
        if number:
            options += _option(_PACKET_ID, struct.pack("<Q", number))
        self._block(_ENHANCED, head + packet + bytes(-size % 4), options)

    def _block(self, kind: int, body: bytes, options: bytes) -> None:
        if options:
            options += _option(_END, b"")
        length = struct.pack("<I", 12 + len(body) + len(options))
        self._file.write(struct.pack("<I", kind) + length + body + options + length)


def _text(code: int, text: str) -> bytes:
    return _option(code, text.encode(errors="replace")[:_LONGEST_TEXT]) if text else b""


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)
