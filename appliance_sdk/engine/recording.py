"""The last packets of flows that a plugin wants on record, and what it has saved of them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import msgspec

from appliance_sdk.plugin.events import Recorded, RecordedPacket

if TYPE_CHECKING:
    from appliance_sdk.engine.engine import Engine
    from appliance_sdk.plugin.flow import Flow


class RecordLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much may be on record."""

    packets: int = 1024
    """Of one flow, at the most; and as many that follow."""
    total_bytes: int = 64 * 1024 * 1024
    """Of all flows together; where they are full, a flow's oldest packets go for its next."""


class Record:
    """One flow's packets: a ring, and what is being saved."""

    __slots__ = ("left", "plugin", "reason", "ring", "saved", "size")

    def __init__(self, packets: int) -> None:
        self.ring: deque[tuple[float, bool, bytes, bytes, bytes]] = deque()
        """(time, to_server, peer, local, datagram) of the last packets."""
        self.size = packets
        self.saved: list[tuple[float, bool, bytes, bytes, bytes]] = []
        self.left = 0
        """How many packets are still to come."""
        self.reason = ""
        self.plugin = ""


class Recording:
    """All records of one engine."""

    def __init__(self, engine: Engine, limits: RecordLimits) -> None:
        self._engine = engine
        self._limits = limits
        self.bytes = 0
        """Packets on record now."""

    def start(self, flow: Flow, packets: int) -> None:
        """Keep the last packets of a flow from now on; 0: no more."""
        size = min(max(packets, 0), self._limits.packets)
        inspection = flow.inspect()
        if inspection.record is None:
            inspection.record = Record(size)
        else:
            inspection.record.size = size
            self._trim(inspection.record)
        if not size and not inspection.record.left:
            inspection.record = None
        self._engine.attachment.recorded(flow)

    def add(self, flow: Flow, to_server: bool, peer: bytes, local: bytes, datagram: bytes) -> None:
        """A packet of a flow has come."""
        record: Record = flow._inspection.record
        packet = self._engine.now, to_server, bytes(peer), local, datagram
        if record.left:
            record.saved.append(packet)
            record.left -= 1
            self.bytes += len(datagram)
            if not record.left:
                self._emit(flow, record)
        if not record.size:
            return
        while record.ring and self.bytes + len(datagram) > self._limits.total_bytes:
            self._shift(record)
        if self.bytes + len(datagram) > self._limits.total_bytes:
            self._engine.metrics["engine.record_full"] += 1
            return
        record.ring.append(packet)
        self.bytes += len(datagram)
        self._trim(record)

    def save(self, flow: Flow, plugin: str, reason: str, and_next: int) -> None:
        """Report the ring, and as many packets as follow; a second time: that many from now on."""
        record = flow._inspection.record
        if record is None:
            record = flow.inspect().record = Record(0)
            self._engine.attachment.recorded(flow)
        if not record.saved and not record.left:
            record.saved = list(record.ring)
            self.bytes += sum(len(packet[4]) for packet in record.saved)
            record.reason, record.plugin = reason, plugin
        record.left = max(record.left, min(and_next, self._limits.packets))
        if not record.left or flow.end_reason:
            self._emit(flow, record)

    def close(self, flow: Flow) -> None:
        """The flow ended: what is being saved is all there will be."""
        record: Record = flow._inspection.record
        if record.saved or record.left:
            self._emit(flow, record)
        record.size = 0
        self._trim(record)
        flow._inspection.record = None

    def _emit(self, flow: Flow, record: Record) -> None:
        now = self._engine.now
        packets = tuple(
            RecordedPacket(now - at, to_server, peer, local, datagram)
            for at, to_server, peer, local, datagram in record.saved
        )
        self.bytes -= sum(len(packet[4]) for packet in record.saved)
        record.saved, record.left = [], 0
        self._engine.host.report(
            Recorded(reason=record.reason, packets=packets), flow, record.plugin
        )
        if not record.size and not flow.end_reason:
            flow._inspection.record = None
            self._engine.attachment.recorded(flow)

    def _trim(self, record: Record) -> None:
        while len(record.ring) > record.size:
            self._shift(record)

    def _shift(self, record: Record) -> None:
        self.bytes -= len(record.ring.popleft()[4])
