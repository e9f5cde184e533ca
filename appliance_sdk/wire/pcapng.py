"""Reading pcapng: packets with the link type and clock of the interface they were taken on.

dpkt reads one interface a file; captures merged from several come with several link types.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple, Protocol

SECTION_HEADER = b"\x0a\x0d\x0d\x0a"
_INTERFACE, _SIMPLE, _ENHANCED = 1, 3, 6
_OLD_PACKET = 2
_MAX_BLOCK = 16 * 1024 * 1024
_END, _COMMENT = 0, 1
_IF_NAME, _IF_TSRESOL, _IF_TSOFFSET = 2, 9, 14


class Readable(Protocol):
    """What a capture is read from: a file, or one that cannot seek."""

    def read(self, size: int, /) -> bytes:
        """Up to so many bytes; fewer at the end only."""


class Block(NamedTuple):
    """One captured frame."""

    timestamp: float
    linktype: int
    data: bytes
    interface: str = ""
    """The name of the interface that it was taken on, if that has one."""
    comments: tuple[str, ...] = ()
    """What is said about it."""


class _Interface(NamedTuple):
    linktype: int
    snaplen: int
    ticks_per_second: int
    offset_s: int
    name: str


def read_pcapng(file: Readable) -> Iterator[Block]:
    """Every captured frame, in file order. Raises ValueError where the file breaks the format.

    Source: draft-ietf-opsawg-pcapng §3 and §4.
    """
    order = "<"
    interfaces: list[_Interface] = []
    while True:
        start = file.read(8)
        if not start:
            return
        if len(start) < 8:
            raise ValueError("the last block is cut off")
        if start[:4] == SECTION_HEADER:
            magic = file.read(4)
            if len(magic) < 4:
                raise ValueError("the last block is cut off")
            if magic not in (b"\x4d\x3c\x2b\x1a", b"\x1a\x2b\x3c\x4d"):
                raise ValueError("a section header without its magic number")
            order = "<" if magic == b"\x4d\x3c\x2b\x1a" else ">"
            interfaces = []
            start += magic
        kind, length = struct.unpack(order + "II", start[:8])
        if not 12 <= length <= _MAX_BLOCK or length % 4:
            raise ValueError(f"a block of {length} bytes")
        body = file.read(length - len(start))
        if len(body) < length - len(start):
            raise ValueError("the last block is cut off")
        body = body[:-4]
        if kind == _INTERFACE:
            interfaces.append(_interface(order, body))
        elif kind in (_ENHANCED, _OLD_PACKET):
            yield _packet(order, kind, body, interfaces)
        elif kind == _SIMPLE:
            if not interfaces or len(body) < 4:
                raise ValueError("a packet without an interface")
            (size,) = struct.unpack_from(order + "I", body)
            size = min(size, interfaces[0].snaplen or size)
            first = interfaces[0]
            yield Block(0.0, first.linktype, body[4 : 4 + size], first.name)


def _interface(order: str, body: bytes) -> _Interface:
    if len(body) < 8:
        raise ValueError("an interface block is cut off")
    linktype, _, snaplen = struct.unpack_from(order + "HHI", body)
    ticks, offset, name = 1_000_000, 0, ""
    for code, value in _options(order, body, 8):
        if code == _IF_TSRESOL and len(value) == 1:
            exponent = value[0] & 0x7F
            ticks = (2 if value[0] & 0x80 else 10) ** exponent
        elif code == _IF_TSOFFSET and len(value) == 8:
            (offset,) = struct.unpack(order + "q", value)
        elif code == _IF_NAME:
            name = value.decode(errors="replace")
    return _Interface(linktype, snaplen, ticks, offset, name)


def _packet(order: str, kind: int, body: bytes, interfaces: list[_Interface]) -> Block:
    if len(body) < 20:
        raise ValueError("a packet block is cut off")
    layout = "IIIII" if kind == _ENHANCED else "HHIIII"
    fields = struct.unpack_from(order + layout, body)
    high, low, size = (fields[1:4]) if kind == _ENHANCED else (fields[2:5])
    if fields[0] >= len(interfaces):
        raise ValueError(f"a packet of interface {fields[0]}, which is not described")
    if size > len(body) - 20:
        raise ValueError("a packet longer than its block")
    interface = interfaces[fields[0]]
    # In integers up to here: a float cannot hold the nanoseconds of our days.
    ticks = (high << 32 | low) + interface.offset_s * interface.ticks_per_second
    at = 20 + (size + 3) // 4 * 4
    comments = tuple(
        value.decode(errors="replace")
        for code, value in _options(order, body, at)
        if code == _COMMENT
    )
    data = body[20 : 20 + size]
    time = ticks / interface.ticks_per_second
    return Block(time, interface.linktype, data, interface.name, comments)


def _options(order: str, body: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """Code and value of each option from `at` on; one that is cut off is the last."""
    while at + 4 <= len(body):
        code, size = struct.unpack_from(order + "HH", body, at)
        if code == _END or at + 4 + size > len(body):
            return
        yield code, body[at + 4 : at + 4 + size]
        at += 4 + (size + 3) // 4 * 4
