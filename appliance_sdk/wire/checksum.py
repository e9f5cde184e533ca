"""The Internet checksum, computed whole or updated in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from appliance_sdk.wire.buffer import Buffer

_TCP = 6
_FOLDS = tuple((bits, (1 << bits) - 1) for bits in (49152, 24576, 12288, 6144, 3072, 1536))
"""At multiples of 16 bits, down from a jumbo's: long division is what takes longest."""
_SHORT = _FOLDS[-1][1]


def checksum(data: bytes | bytearray | memoryview) -> int:
    """The 16-bit Internet checksum of `data` (RFC 1071); 0 over data that includes a right one."""
    data = bytes(data)
    if len(data) & 1:
        data += b"\0"
    number = int.from_bytes(data, "big")
    # The sum of anything but zeros is never 0.
    total = _sum_of_words(number) or (0xFFFF if number else 0)
    return ~total & 0xFFFF


def update_checksum(old: int, before: bytes, after: bytes) -> int:
    """The checksum after `before` was replaced by `after` at an even offset (RFC 1624 eqn. 3)."""
    total = (~old & 0xFFFF) + (~_sum(before) & 0xFFFF) + _sum(after)
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def transport_checksum(
    source: bytes, destination: bytes, protocol: int, segment: bytes | bytearray | memoryview
) -> int:
    """The checksum of a TCP, UDP or ICMPv6 segment with its pseudo-header.

    0 if the segment holds a right checksum already (RFC 9293 §3.1, RFC 8200 §8.1).
    """
    length = len(segment)
    pseudo = source + destination + length.to_bytes(4, "big") + bytes((0, 0, 0, protocol))
    return checksum(pseudo + bytes(segment))


def is_right_tcp4(buffer: Buffer, start: int, end: int) -> bool:
    """Whether the TCP checksum is right in `buffer[start:end]`, an IPv4 packet without options.

    There all that is summed stands in one piece, from the addresses on.
    """
    number = int.from_bytes(buffer[start + 12 : end], "big")
    if end - start & 1:
        number <<= 8
    # The rest of the pseudo-header: the length and the protocol, for which the whole sum is not 0
    # (see `checksum`).
    return (_sum_of_words(number) + end - start - 20 + _TCP) % 0xFFFF == 0


def _sum_of_words(number: int) -> int:
    """The one's complement sum of the 16-bit words of a number, modulo 0xffff.

    2^16 = 1 (mod 0xffff), so it is the number itself, and any halves of it may be added.
    """
    if number > _SHORT:
        for bits, low in _FOLDS:
            if number > low:
                number = (number >> bits) + (number & low)
    return number % 0xFFFF


def _sum(data: bytes) -> int:
    return ~checksum(data) & 0xFFFF
