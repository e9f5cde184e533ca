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
    """One flow's packets: the last ones, or all since those that are being saved."""

    __slots__ = ("left", "plugin", "reason", "ring", "size")

    def __init__(self, packets: int) -> None:
        self.ring: deque[tuple[float, bool, bytes, bytes, bytes]] = deque()
        """(time, to_server, peer, local, datagram) of each."""
        self.size = packets
        self.left = 0
        """How many packets are still to come before they are saved; until then none goes."""
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
            if not inspection.record.left:
                self._trim(inspection.record)
        if not size and not inspection.record.left:
            inspection.record = None
        self._engine.attachment.recorded(flow)

    def add(self, flow: Flow, to_server: bool, peer: bytes, local: bytes, datagram: bytes) -> None:
        """A packet of a flow has come."""
        record: Record = flow._inspection.record
        record.ring.append((self._engine.now, to_server, bytes(peer), local, datagram))
        self.bytes += len(datagram)
        if record.left:
            record.left -= 1
            if record.left and self._is_over():
                self._engine.metrics["engine.record_full"] += 1
                record.left = 0
            if not record.left:
                self._emit(flow, record)
            return
        self._trim(record)
        if record.size and not record.ring:
            self._engine.metrics["engine.record_full"] += 1

    def save(self, flow: Flow, plugin: str, reason: str, and_next: int) -> None:
        """Report the ring, and as many packets as follow; a second time: that many from now on.

        Where the next finds no room, the report comes early and ends with it (`record_full`).
        """
        record = flow._inspection.record
        if record is None:
            record = flow.inspect().record = Record(0)
            self._engine.attachment.recorded(flow)
        if not record.left:
            record.reason, record.plugin = reason, plugin
        record.left = max(record.left, min(and_next, self._limits.packets))
        if not record.left or flow.end_reason:
            self._emit(flow, record)

    def close(self, flow: Flow) -> None:
        """The flow ended: what is being saved is all there will be."""
        record: Record = flow._inspection.record
        if record.left:
            self._emit(flow, record)
        record.size = 0
        self._trim(record)
        flow._inspection.record = None

    def _emit(self, flow: Flow, record: Record) -> None:
        now = self._engine.now
        packets = tuple(
            RecordedPacket(now - at, to_server, peer, local, datagram)
            for at, to_server, peer, local, datagram in record.ring
        )
        record.left = 0
        self._trim(record)
        self._engine.host.report(
            Recorded(reason=record.reason, packets=packets), flow, record.plugin
        )
        if not record.size and not flow.end_reason:
            flow._inspection.record = None
            self._engine.attachment.recorded(flow)

    def _trim(self, record: Record) -> None:
        while len(record.ring) > record.size or (record.ring and self._is_over()):
            self.bytes -= len(record.ring.popleft()[4])

    def _is_over(self) -> bool:
        return self.bytes > self._limits.total_bytes
