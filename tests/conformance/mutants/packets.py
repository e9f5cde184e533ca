"""The right appliance, second part: reads the packet inside, each rule a method of its own."""

from __future__ import annotations

import struct
from typing import NamedTuple

from mutants.headers import IPV4, ReadsHeaders, must

ICMP, TCP, UDP, NO_NEXT, ICMP6 = 1, 6, 17, 59, 58
FIN, SYN, RST, ACK = 1, 2, 4, 16
HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION = 0, 43, 44, 60
LARGEST = 8500


class Piece(NamedTuple):
    """Where a fragment belongs, in bytes, and of what."""

    identification: int
    offset: int
    more: bool


class Packet(NamedTuple):
    """An inner packet: as it came, and what was read of it."""

    raw: bytes
    protocol: int
    source: bytes
    destination: bytes
    body: bytes
    """What the last header that was understood carries."""
    piece: Piece | None
    ports: tuple[int, int] = (0, 0)
    flags: int = 0
    """TCP's."""
    sequence: int = 0
    """TCP's."""
    data: bytes = b""
    """TCP's."""


class ReadsPackets(ReadsHeaders):
    """From the bytes behind a GENEVE header to a packet."""

    def packet(self, protocol: int, raw: bytes) -> Packet:
        """Read a packet. Raises Unsound."""
        must(self.is_there(raw))
        version = raw[0] >> 4
        must(self.takes_version_inside(version))
        must(self.agree(protocol, version))
        must(self.takes_size(len(raw)))
        read = self.ipv4(raw) if self.is_ipv4(protocol, version) else self.ipv6(raw)
        must(self.takes_destination(read.destination))
        must(self.takes_piece(read))
        return self.transport(read)

    def is_there(self, raw: bytes) -> bool:
        """A header with nothing behind it carries no packet."""
        return len(raw) > 0

    def takes_version_inside(self, version: int) -> bool:
        """RFC 791 §3.1, RFC 8200 §3."""
        return version in (4, 6)

    def agree(self, protocol: int, version: int) -> bool:
        """RFC 8926 §3.4: the protocol type says what follows."""
        return version == (4 if protocol == IPV4 else 6)

    def is_ipv4(self, protocol: int, version: int) -> bool:
        """Which of the two that agree is believed."""
        return version == 4

    def takes_size(self, size: int) -> bool:
        """AWS guide: GWLB drops what is larger than 8,500 bytes, without a word."""
        return size <= LARGEST

    def ipv4(self, raw: bytes) -> Packet:
        """RFC 791 §3.1."""
        must(self.has_header(len(raw), 20))
        size = self.ihl(raw[0])
        total, identification, word = struct.unpack_from(">HHH", raw, 2)
        must(self.takes_lengths(size, total, len(raw)))
        offset, more = 8 * (word & 0x1FFF), bool(word & 0x2000)
        piece = Piece(identification, offset, more) if offset or more else None
        return Packet(raw, raw[9], raw[12:16], raw[16:20], raw[size:total], piece)

    def has_header(self, here: int, size: int) -> bool:
        """20 bytes of IPv4, 40 of IPv6."""
        return here >= size

    def ihl(self, first: int) -> int:
        """The header's length in bytes."""
        return 4 * (first & 0x0F)

    def takes_lengths(self, header: int, total: int, here: int) -> bool:
        """RFC 791 §3.1: the header is whole, and the packet is here; more may trail."""
        return 20 <= header <= total <= here

    def ipv6(self, raw: bytes) -> Packet:
        """RFC 8200 §3-4."""
        must(self.has_header(len(raw), 40))
        end = 40 + int.from_bytes(raw[4:6], "big")
        must(self.takes_lengths6(end, len(raw)))
        protocol, at, piece = self.chain(raw, raw[6], 40, end)
        return Packet(raw, protocol, raw[8:24], raw[24:40], raw[at:end], piece)

    def takes_lengths6(self, end: int, here: int) -> bool:
        """The packet is here; more may trail."""
        return end <= here

    def chain(self, raw: bytes, protocol: int, at: int, end: int) -> tuple[int, int, Piece | None]:
        """RFC 8200 §4: over the extension headers, eight at most, to what they carry."""
        piece = None
        for _ in range(9):
            if protocol not in (HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION):
                return protocol, at, piece
            must(at + 8 <= end)
            following, words = raw[at], raw[at + 1]
            if protocol == FRAGMENT:
                word, identification = struct.unpack_from(">HI", raw, at + 2)
                piece = Piece(identification, word & 0xFFF8, bool(word & 1))
                words = 0
            protocol, at = following, at + 8 + 8 * words
            must(at <= end)
            if piece is not None and piece.offset:
                break  # what follows is not a header, whatever it looks like
        else:
            must(False)
        return protocol, at, piece

    def takes_destination(self, destination: bytes) -> bool:
        """A VPC has neither broadcast nor multicast."""
        many = destination[0] >> 4 == 0xE if len(destination) == 4 else destination[0] == 0xFF
        return not many and destination != b"\xff\xff\xff\xff"

    def takes_piece(self, packet: Packet) -> bool:
        """RFC 1858: a first TCP fragment holds the whole header, and nothing is laid over it."""
        piece = packet.piece
        if piece is None or packet.protocol != TCP:
            return True
        return piece.offset >= 20 or (piece.offset == 0 and len(packet.body) >= 20)

    def transport(self, packet: Packet) -> Packet:
        """Ports, and what TCP says; without them where they are not whole or not there."""
        body = packet.body
        if packet.piece is not None and packet.piece.offset:
            return packet
        if packet.protocol == UDP and len(body) >= 8:
            return packet._replace(ports=struct.unpack_from(">HH", body))
        if packet.protocol == TCP and len(body) >= 20:
            ports = struct.unpack_from(">HH", body)
            size = 4 * (body[12] >> 4)
            flags, sequence = body[13], int.from_bytes(body[4:8], "big")
            data = body[size:] if size >= 20 else b""
            return packet._replace(ports=ports, flags=flags, sequence=sequence, data=data)
        return packet
