"""The right appliance, first part: reads GENEVE headers, each rule a method that can be got wrong.

Written from RFC 8926 and from what is known of AWS, without the SDK: a misreading in one is not
repeated in the other.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

AWS = 0x0108
IPV4, IPV6 = 0x0800, 0x86DD
ENDPOINT, ATTACHMENT, COOKIE = 1, 2, 3
LENGTHS = {ENDPOINT: 8, ATTACHMENT: 8, COOKIE: 4}
CONTROL, CRITICAL = 0x80, 0x40


class Unsound(Exception):
    """The datagram is dropped."""


def must(holds: bool) -> None:
    """Raise Unsound unless it holds."""
    if not holds:
        raise Unsound


class Option(NamedTuple):
    """One option: its class, its type with the critical bit, its data."""

    option_class: int
    type: int
    data: bytes


class Header(NamedTuple):
    """A GENEVE header: as it came, and what was read of it."""

    raw: bytes
    protocol: int
    endpoint: int
    cookie: int


class ReadsHeaders:
    """From a datagram to its GENEVE header."""

    def header(self, datagram: bytes) -> Header:
        """Read a header. Raises Unsound."""
        must(self.long_enough(datagram))
        first, flags, protocol, word = struct.unpack_from(">BBHI", datagram)
        must(self.takes_version(first >> 6))
        size = self.size(first)
        must(self.fits(size, datagram))
        must(not flags & CONTROL or self.takes_control_packets())
        must(self.takes_protocol(protocol))
        must(self.takes_reserved(first, flags & 0x3F, word & 0xFF))
        must(self.takes_network(word >> 8))
        options = list(self.options(datagram, 8, size))
        must(self.takes_options(options))
        must(self.takes_critical(options, bool(flags & CRITICAL)))
        values = self.values(options)
        return Header(datagram[:size], protocol, values[ENDPOINT], values[COOKIE])

    def long_enough(self, datagram: bytes) -> bool:
        """RFC 8926 §3.4: the base header has eight bytes."""
        return len(datagram) >= 8

    def takes_version(self, version: int) -> bool:
        """RFC 8926 §3.4: unknown versions are dropped."""
        return version == 0

    def size(self, first: int) -> int:
        """RFC 8926 §3.4: Opt Len has six bits and counts words."""
        return 8 + 4 * (first & 0x3F)

    def fits(self, size: int, datagram: bytes) -> bool:
        """The options end within the datagram."""
        return size <= len(datagram)

    def takes_control_packets(self) -> bool:
        """RFC 8926 §3.4: the payload of a control packet is not forwarded."""
        return False

    def takes_protocol(self, protocol: int) -> bool:
        """GWLB carries IPv4 and IPv6."""
        return protocol in (IPV4, IPV6)

    def takes_reserved(self, first: int, flags: int, last: int) -> bool:
        """RFC 8926 §3.4: reserved bits are ignored."""
        return True

    def takes_network(self, vni: int) -> bool:
        """GWLB sends 0, and never promised to."""
        return True

    def options(self, datagram: bytes, at: int, end: int) -> Iterator[Option]:
        """RFC 8926 §3.5: the options fill their area exactly."""
        while at < end:
            must(end - at >= 4)
            option_class, kind, last = struct.unpack_from(">HBB", datagram, at)
            length = self.option_length(last)
            must(at + 4 + length <= end)
            yield Option(option_class, kind, datagram[at + 4 : at + 4 + length])
            at += 4 + length

    def option_length(self, last: int) -> int:
        """RFC 8926 §3.5: three reserved bits, then five that count words without the header."""
        return 4 * (last & 0x1F)

    def takes_options(self, options: list[Option]) -> bool:
        """AWS's three, each once and as long as it should be, in any order, among any others."""
        own = {one.type: len(one.data) for one in options if self.is_gwlbs(one)}
        return own == LENGTHS and self.takes_repeated(options)

    def is_gwlbs(self, option: Option) -> bool:
        """Whether it is one of the three."""
        return option.option_class == AWS and option.type in LENGTHS

    def takes_repeated(self, options: list[Option]) -> bool:
        """Two cookies in one header are no cookie."""
        kinds = [one.type for one in options if self.is_gwlbs(one)]
        return len(kinds) == len(set(kinds))

    def takes_critical(self, options: list[Option], flag: bool) -> bool:
        """RFC 8926 §3.5: an unknown option that is critical drops the packet."""
        return not any(one.type & 0x80 for one in options)

    def values(self, options: list[Option]) -> dict[int, int]:
        """The three values by option type."""
        return {one.type: int.from_bytes(one.data, "big") for one in options if self.is_gwlbs(one)}
