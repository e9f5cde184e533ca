"""The handler that reads the first bytes of a TCP connection and then lets go of it."""

from __future__ import annotations

from typing import Any

from appliance_sdk import FlowHandler, Outcome, Packet, Verdict
from reference_appliances.analytics.application import MOST_BYTES, identify

MOST_PACKETS = 32
"""Handshake included. A flow that has not said what it is by then is named by its port."""


class Probe(FlowHandler[Any]):
    """Looks at packets, not at streams: reassembly may drop what contradicts itself, and what
    only counts must not drop anything. Bytes that come out of order are not looked at.
    """

    application: str = ""
    host: str = ""

    _packets: int = 0
    _head: dict[bool, bytes] = {}
    _next: dict[bool, int] = {}

    def restored(self) -> None:
        """The first bytes went by in another process."""
        self._packets = MOST_PACKETS

    def packet(self, packet: Packet) -> Outcome:
        """Add a packet to the first bytes of its direction."""
        self._packets += 1
        last = self._packets >= MOST_PACKETS
        payload = packet.payload if self._packets <= MOST_PACKETS else b""
        tcp = packet.tcp
        if tcp is not None:
            at = tcp.seq + 1 if tcp.syn else tcp.seq
            expected = at if tcp.syn else self._next.get(packet.to_server, at)
            if at & 0xFFFFFFFF != expected & 0xFFFFFFFF:
                payload = b""
            elif payload or tcp.syn:
                self._next[packet.to_server] = at + len(payload)
        done = self._look(packet.to_server, payload, final=last) if payload else False
        return Verdict.DONE if done or last else None

    def conclude(self) -> None:
        """The flow is over: what there is must do."""
        for to_server in (True, False):
            if self._head.get(to_server) and not self.application:
                self._look(to_server, b"", final=True)

    def _look(self, to_server: bool, payload: bytes, *, final: bool) -> bool:
        head = (self._head.get(to_server, b"") + payload)[:MOST_BYTES]
        self._head[to_server] = head
        found = identify(head, to_server=to_server, final=final)
        if found is None:
            return False
        self.application, self.host = found
        self._head = {}
        return True
