"""Mutants that return no packet as it must be: the suite says so and asks them nothing."""

from __future__ import annotations

from mutants.headers import Header
from mutants.mutant import BRACKET, mutant
from mutants.packets import Packet
from mutants.right import GENEVE_PORT, Flow, Outer, Right


@mutant(BRACKET, origin="any UDP socket")
class SwapsPorts(Right):
    """Answers as a UDP socket does: from 6081, to the port that the packet came from."""

    def reply_source(self, flow: Flow, outer: Outer) -> tuple[str, int]:
        return outer.address, GENEVE_PORT

    def reply_to(self, flow: Flow, outer: Outer) -> tuple[str, int]:
        return outer.node, outer.port


@mutant(BRACKET, origin="Linux geneve device")
class NoOptionsInReplies(Right):
    """Cannot send a flow's options back: its replies have a header of eight bytes."""

    def reply_header(self, flow: Flow, header: Header) -> bytes:
        return b"\0\0" + header.raw[2:8]


@mutant(BRACKET)
class Translates(Right):
    """Puts its own address in place of the client's (NAT), and sends that back to GWLB."""

    def reply_packet(self, packet: Packet) -> bytes:
        return packet.raw[:12] + b"\x0a\x09\x01\x15" + packet.raw[16:]


@mutant(BRACKET)
class DropsEverything(Right):
    """Is a firewall without a rule."""

    def forwards(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        return False
