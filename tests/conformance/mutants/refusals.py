"""What a right firewall sends to whom it refuses: a RST for TCP, an ICMP error for UDP."""

from __future__ import annotations

import struct

from mutants.packets import ACK, FIN, ICMP, ICMP6, RST, SYN, TCP, Packet

PROHIBITED, PROHIBITED6 = (3, 13), (1, 1)
"""Type and code: communication administratively prohibited (RFC 1812 §5.2.7.1, RFC 4443 §3.1)."""
_MASK = 0xFFFFFFFF


def reset_to(packet: Packet, *, flags: int, seq: int, ack: int) -> bytes:
    """A RST to the sender of a segment, as from its destination."""
    ports = packet.ports[1], packet.ports[0]
    segment = struct.pack(">HHIIBBHHH", *ports, seq, ack, 5 << 4, flags, 0, 0, 0)
    return ip_packet(packet.destination, packet.source, TCP, _summed(packet, TCP, segment, 16))


def answer_to_syn(packet: Packet) -> bytes:
    """RFC 9293 §3.10.7.1: sequence number 0, and everything acknowledged that the SYN takes."""
    took = len(packet.data) + bool(packet.flags & SYN) + bool(packet.flags & FIN)
    return reset_to(packet, flags=RST | ACK, seq=0, ack=packet.sequence + took & _MASK)


def prohibited(packet: Packet) -> bytes:
    """An ICMP error to the sender that quotes IP header and eight bytes more."""
    four = len(packet.source) == 4
    kind, code = PROHIBITED if four else PROHIBITED6
    return icmp_error(packet, kind, code, packet.raw[: header_size(packet) + 8])


def icmp_error(packet: Packet, kind: int, code: int, quoted: bytes) -> bytes:
    """An ICMP error to the sender of a packet."""
    protocol = ICMP if len(packet.source) == 4 else ICMP6
    body = struct.pack(">BBHI", kind, code, 0, 0) + quoted
    return ip_packet(
        packet.destination, packet.source, protocol, _summed(packet, protocol, body, 2)
    )


def header_size(packet: Packet) -> int:
    """Where the transport header begins."""
    end = int.from_bytes(packet.raw[2:4] if len(packet.source) == 4 else packet.raw[4:6], "big")
    return end + (0 if len(packet.source) == 4 else 40) - len(packet.body)


def ip_packet(source: bytes, destination: bytes, protocol: int, body: bytes) -> bytes:
    """An IP packet without options."""
    if len(source) == 16:
        return struct.pack(">IHBB", 6 << 28, len(body), protocol, 64) + source + destination + body
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, protocol, 0)
    head += source + destination
    return head[:10] + struct.pack(">H", _sum(head)) + head[12:] + body


def _summed(packet: Packet, protocol: int, body: bytes, at: int) -> bytes:
    """The body with its checksum; RFC 9293 §3.1 and RFC 4443 §2.3 have addresses in it too."""
    ends = packet.destination + packet.source
    pseudo = b"" if protocol == ICMP else ends + struct.pack(">II", len(body), protocol)
    return body[:at] + struct.pack(">H", _sum(pseudo + body)) + body[at + 2 :]


def _sum(data: bytes) -> int:
    """RFC 1071."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def is_summed(packet: Packet) -> bool:
    """Whether a segment has the right checksum (RFC 9293 §3.1)."""
    ends = packet.source + packet.destination
    return not _sum(ends + struct.pack(">II", len(packet.body), packet.protocol) + packet.body)
