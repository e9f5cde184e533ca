"""What is wrong with a reply: compared with the datagram that it answers, in words."""

from __future__ import annotations

from typing import NamedTuple

from appliance_sdk.conformance.conversation import Datagram
from appliance_sdk.wire.geneve import PORT
from appliance_sdk.wire.packet import RST, TCP


class Reply(NamedTuple):
    """A datagram from the appliance, with the addresses and UDP ports that it really had."""

    source: tuple[str, int]
    destination: tuple[str, int]
    payload: bytes


def carries(reply: Reply, datagram: Datagram) -> bool:
    """Whether a reply holds this inner packet, perhaps with its TTL decremented.

    An ICMP error that quotes the packet ends like it, and is none.
    """
    inner = _inner(reply)
    return bool(inner) and without_ttl(inner) == without_ttl(datagram.inner)


def is_reset(reply: Reply) -> bool:
    """Whether a reply holds a RST over IPv4, such as an appliance makes to end a connection."""
    inner = _inner(reply)
    return len(inner) == 40 and inner[0] == 0x45 and inner[9] == TCP and bool(inner[33] & RST)


def differences(
    datagram: Datagram, reply: Reply, node: str, address: str, *, ttl_may_fall: bool = True
) -> list[str]:
    """Why GWLB would not take this reply, or not hand on what was sent; [] if it would.

    `node` is the load balancer's address that sent the datagram, `address` the appliance's that
    it went to.
    """
    wrong = encapsulation_differences(datagram, reply, node, address)
    inner = reply.payload[len(datagram.header) :]
    if reply.payload.startswith(datagram.header) and inner != datagram.inner:
        masked = without_ttl(inner) == without_ttl(datagram.inner)
        if not (masked and ttl_may_fall):
            wrong.append("inner packet: " + _first_difference(datagram.inner, inner))
    return wrong


def encapsulation_differences(
    datagram: Datagram, reply: Reply, node: str, address: str
) -> list[str]:
    """What is wrong with addresses, ports and GENEVE header of a reply, whatever it holds."""
    wrong = []
    if reply.source[1] != datagram.source_port:
        swapped = " (an ordinary UDP socket swaps the ports; GWLB's stay as they are)"
        wrong.append(
            f"left from UDP port {reply.source[1]}, not {datagram.source_port}"
            + (swapped if reply.source[1] == PORT else "")
        )
    if reply.source[0] != address:
        wrong.append(f"came from {reply.source[0]}, not from {address}, which was asked")
    if reply.destination[0] != node:
        wrong.append(f"went to {reply.destination[0]}, not to {node}, which had sent it")
    if reply.destination[1] != PORT:
        wrong.append(f"went to UDP port {reply.destination[1]}, not {PORT}")
    header = reply.payload[: len(datagram.header)]
    if header != datagram.header:
        wrong.append("GENEVE header: " + _first_difference(datagram.header, header))
    return wrong


def without_ttl(packet: bytes) -> bytes:
    """An IP packet as if the routers on its way did not count: a kernel that forwards does."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        return packet[:8] + b"\0" + packet[9:10] + b"\0\0" + packet[12:]
    if version == 6 and len(packet) >= 40:
        return packet[:7] + b"\0" + packet[8:]
    return packet


def _inner(reply: Reply) -> bytes:
    """What follows the GENEVE header, by the length that the header says (RFC 8926 §3.4)."""
    return reply.payload[8 + (reply.payload[0] & 0x3F) * 4 :] if reply.payload else b""


def _first_difference(expected: bytes, got: bytes) -> str:
    if len(expected) != len(got):
        return f"{len(got)} bytes came back, not {len(expected)}"
    at = next(i for i, (a, b) in enumerate(zip(expected, got, strict=True)) if a != b)
    end = at + 4
    return f"byte {at} on: {got[at:end].hex(' ')}, not {expected[at:end].hex(' ')}"
