"""A capture through the engine, at the capture's own time and as fast as it goes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from appliance_sdk.dataplane.encapsulate import DEFAULT_ENDPOINT, Capture, Encapsulator
from appliance_sdk.dataplane.mmsg import private_memory
from appliance_sdk.engine import DROP, REPLACED
from appliance_sdk.errors import ApplianceError, MalformedPacket
from appliance_sdk.wire.capture import Frame
from appliance_sdk.wire.geneve import parse_geneve

if TYPE_CHECKING:
    from appliance_sdk.engine import Engine

REPLAY_REASONS: Mapping[str, str] = MappingProxyType(
    {
        "recorded_reply": "The capture was made at an appliance, and this is its recorded answer.",
    }
)
"""Reasons for which a frame never reaches the engine, beside those of wire.reasons."""

_BUFFER_BYTES = 1 << 17
_MAX_STEPS = 100_000  # timers run in one gap of the capture: its clock may have jumped by years


class Replayed(NamedTuple):
    """What became of one frame; or, with number 0, what the engine sent in a pause."""

    number: int
    """From 1, as Wireshark counts."""
    timestamp: float
    reason: str
    """Why it was dropped; "" if it was forwarded."""
    edited: bool
    sent: tuple[bytes, ...]
    """Inner packets that left, in order: this one, if it was forwarded, and any made for it."""


@dataclass(slots=True)
class ReplayReport:
    """A capture's balance: every packet read was forwarded or dropped for one reason."""

    packets: int = 0
    bytes: int = 0
    """Of the frames, as captured."""
    unchanged: int = 0
    """Forwarded exactly as received."""
    edited: int = 0
    """Forwarded as a plugin edited them."""
    altered: int = 0
    """Forwarded with other bytes though nobody edited them: 0 unless the engine is broken."""
    injected: int = 0
    """Packets that the appliance made itself: resets, ICMP errors, replies."""
    dropped: Counter[str] = field(default_factory=Counter)
    """By reason."""
    flows_opened: int = 0
    flows_closed: int = 0
    started: float = 0.0
    """Time stamp of the first packet."""
    ended: float = 0.0
    """Time stamp of the last one, or of the latest if the capture's clock went back."""
    damage: str = ""
    """What cut the capture short, if something did; the packets before it were replayed."""

    @property
    def forwarded(self) -> int:
        """Packets that went on, edited or not."""
        return self.unchanged + self.edited + self.altered

    @property
    def balanced(self) -> bool:
        """Is every packet accounted for, and none changed behind the plugins' back?"""
        return self.packets == self.forwarded + self.dropped.total() and not self.altered


class Replay:
    """Feeds frames to an engine, whose `origins` must admit the outer addresses.

    Frames without GENEVE come from 10.9.0.11. Time follows the frames' stamps and never goes back.
    """

    def __init__(self, engine: Engine, *, endpoint: str = DEFAULT_ENDPOINT) -> None:
        self.engine = engine
        self.report = ReplayReport()
        self._encapsulator = Encapsulator(endpoint)
        self._now = -math.inf
        self._drops: Counter[str] = Counter(engine.drops)
        self._opened, self._closed = engine.flows_opened, engine.flows_closed
        # The same kind of memory that the sockets' data plane has.
        self._memory = private_memory(_BUFFER_BYTES).map

    def pass_time(self, until: float) -> Replayed | None:
        """Run what becomes due before then: what it sent, None if nothing."""
        engine = self.engine
        for _ in range(_MAX_STEPS):
            due = engine.next_deadline()
            if due > until:
                break
            engine.advance(max(due, self._now))
        else:
            engine.advance(until)
        sent = self._outbox()
        self.report.injected += len(sent)
        return Replayed(0, until, "", False, sent) if sent else None

    def feed(self, frame: Frame) -> Replayed:
        """Judge one frame, at its time or, should the clock have gone back, the latest seen."""
        report = self.report
        report.packets += 1
        report.bytes += len(frame.data)
        if report.packets == 1:
            report.started = frame.timestamp
        self._now = report.ended = max(self._now, frame.timestamp)
        reason, edited, sent = self._judge(frame)
        if reason:
            report.dropped[reason] += 1
        return Replayed(report.packets, self._now, reason, edited, sent)

    def close(self) -> ReplayReport:
        """End every flow and check the balance. Raises ApplianceError if it does not hold."""
        report, engine = self.report, self.engine
        engine.close(max(self._now, 0.0))
        report.injected += len(self._outbox())
        report.flows_opened = engine.flows_opened - self._opened
        report.flows_closed = engine.flows_closed - self._closed
        if not report.balanced:
            raise ApplianceError(
                f"{report.packets} packets were read, {report.forwarded} forwarded "
                f"({report.altered} of them altered), {report.dropped.total()} dropped"
            )
        return report

    def _judge(self, frame: Frame) -> tuple[str, bool, tuple[bytes, ...]]:
        try:
            datagram = self._encapsulator.datagram(frame)
        except MalformedPacket as error:
            return error.reason, False, ()
        if datagram is None:
            return "recorded_reply", False, ()
        peer, local, payload = datagram
        length = len(payload)
        if length > len(self._memory):
            self._memory = private_memory(length).map
        self._memory[:length] = payload
        decision = self.engine.receive(self._memory, 0, length, peer, local, self._now)
        sent = self._outbox()
        report = self.report
        if decision == DROP:
            report.injected += len(sent)
            return self._reason(), False, sent
        if decision == REPLACED:
            report.edited += 1
            report.injected += len(sent) - 1
            return "", True, sent
        report.injected += len(sent)
        left = self._memory[:length]
        if left == payload:
            report.unchanged += 1
        else:
            report.altered += 1
        return "", False, (_inner(left), *sent)

    def _reason(self) -> str:
        """Which of the engine's counters has moved."""
        found = "unknown"
        for reason, count in self.engine.drops.items():
            if count != self._drops[reason]:
                self._drops[reason] = count
                found = reason
        return found

    def _outbox(self) -> tuple[bytes, ...]:
        outbox = self.engine.outbox
        if not outbox:
            return ()
        sent = tuple(_inner(payload) for _peer, _local, payload in outbox)
        outbox.clear()
        return sent


def replay_capture(
    path: str | Path,
    make_engine: Callable[[float], Engine],
    *,
    endpoint: str = DEFAULT_ENDPOINT,
    on_packet: Callable[[Replayed], None] | None = None,
) -> ReplayReport:
    """Replay a pcap or pcapng file through an engine made for the time of its first packet.

    `on_packet` gets every frame's result, and what timers sent in between. Raises ConfigError if
    the file is not a capture; one that is damaged further on is replayed up to there.
    """
    replay: Replay | None = None
    capture = Capture(path)
    for frame in capture:
        if replay is None:
            replay = Replay(make_engine(frame.timestamp), endpoint=endpoint)
        idle = replay.pass_time(frame.timestamp)
        result = replay.feed(frame)
        if on_packet is not None:
            if idle is not None:
                on_packet(idle)
            on_packet(result)
    if replay is None:
        replay = Replay(make_engine(0.0), endpoint=endpoint)
    replay.report.damage = capture.damage
    return replay.close()


def _inner(payload: bytes) -> bytes:
    """The packet in a datagram that the engine sends."""
    return payload[parse_geneve(payload, 0, len(payload)).length :]
