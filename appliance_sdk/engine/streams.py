"""Application bytes to handlers: reassembly, look-back, gaps and edits."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from appliance_sdk.engine.credibility import Credibility
from appliance_sdk.engine.guard import Guard
from appliance_sdk.engine.settings import EngineSettings
from appliance_sdk.flow.reassembly import Budget, Status, StreamBuffer
from appliance_sdk.plugin.chunk import Chunk
from appliance_sdk.plugin.hold import Hold
from appliance_sdk.plugin.verdict import Action, Verdict
from appliance_sdk.wire.checksum import is_right_tcp4
from appliance_sdk.wire.packet import ACK, FIN, RST, SYN, URG, Headers

if TYPE_CHECKING:
    from appliance_sdk.plugin.flow import Flow
    from appliance_sdk.plugin.manager import Seat
    from appliance_sdk.plugin.packet import Packet

_TCP = 6
_TCP_FIELDS = struct.Struct(">IIBB")
_TELLING = FIN | SYN | RST | ACK | URG
"""Flags that say what a segment is for; of the usual one, only ACK."""
_REFUSED = {
    Status.CONFLICT: "stream_conflict",
    Status.FULL: "stream_full",
    Status.OUT_OF_ORDER: "stream_out_of_order",
}


class Judged(NamedTuple):
    """What came of a packet's bytes: a reason to drop it, or a plugin's terminal verdict."""

    drop: str = ""
    verdict: Verdict | None = None
    seat: Seat | None = None


FINE = Judged()
"""Nothing is to be done about it."""


def _wishes(flow: Flow) -> dict[str, Any]:
    """What the handlers of a flow want of its streams."""
    handlers = [hook.__self__ for _seat, hook in flow._inspection.on_data]
    return {
        "ordered": any(h.edits for h in handlers),
        "lookback": max((h.lookback for h in handlers), default=0),
    }


def _gap_refused(flow: Flow) -> Judged | None:
    """The verdict of the first plugin that does not put up with lost bytes."""
    for seat, _hook in flow._inspection.on_data:
        if seat.gap.action is not Action.CONTINUE:
            verdict = seat.gap.because("stream bytes were lost to inspection", rule="gap")
            return Judged(verdict=verdict, seat=seat)
    return None


def _length(packet: Packet) -> int:
    """Bytes of a packet's payload."""
    headers = packet.headers
    return headers.end - headers.payload


class Streams:
    """Feeds the payload of packets to the `data` hooks of their flow."""

    def __init__(
        self,
        settings: EngineSettings,
        guard: Guard,
        detach: Callable[[Flow, Seat], None],
    ) -> None:
        self._limits = settings.stream
        self._budget = Budget(settings.stream_total_bytes)
        self._guard = guard
        self._detach = detach
        self._credible = Credibility()
        self.holds: list[tuple[Seat, Hold]] = []
        """The verdicts to be waited for that were given since `take_holds`."""

    def usual(self, flow: Flow, packet: Packet, now: float) -> Judged:
        """`judge` for a packet with TCP or UDP behind an IP header without options or extensions.

        The short way of a segment that is next in its stream: no header is parsed that no handler
        asks for. Until it is known to be one, nothing is done that `judge` could not do again.
        """
        buffer, start, end = packet._buffer, packet._start, packet._end
        if buffer[start] != 0x45:
            return self.judge(flow, packet, now)
        inspection = flow._inspection
        to_server, streams = packet.to_server, inspection.streams
        if streams is None:
            if flow.tcp is not None:
                return self.judge(flow, packet, now)
            payload = bytes(buffer[start + 28 : end])
            return self._tell(flow, packet, payload, 0, 0, 0, None, now) if payload else FINE
        seq, ack, offset, flags = _TCP_FIELDS.unpack_from(buffer, start + 24)
        stream, other = streams[to_server], streams[not to_server]
        if flags & _TELLING != ACK or (other is not None and other.copies is not None):
            return self.judge(flow, packet, now)
        if is_right_tcp4(buffer, start, end):
            inspection.sound |= 1 + to_server
        elif inspection.sound & 1 + to_server:
            return Judged(drop="stream_ignored")
        if not to_server:
            self._credible.hear(flow.lane.endpoint_id, bytes(buffer[start + 12 : start + 16]))
        if other is not None:
            other.acknowledge(ack)
        payload = bytes(buffer[start + 20 + (offset >> 4 << 2) : end])
        if not payload:
            return FINE
        if self._credible.is_suspect(flow, to_server):
            return Judged(drop="stream_out_of_order")
        at = stream.append(seq, payload) if stream is not None else -1
        if at < 0:
            return self.judge(flow, packet, now)
        return self._tell(flow, packet, payload, at, 0, 0, stream, now)

    def judge(self, flow: Flow, packet: Packet, now: float) -> Judged:
        """Show what the packet brings; it is forwarded unless the answer says otherwise."""
        headers = packet.headers
        if headers.flags & (URG | RST) == URG:
            packet.clear_urgent()
            headers = packet.headers
        if headers.protocol != _TCP:
            payload = packet.payload
            return self._tell(flow, packet, payload, 0, 0, 0, None, now) if payload else FINE
        if self._credible.is_ignored(flow, packet):
            return Judged(drop="stream_ignored")
        if not packet.to_server:
            self._credible.hear(flow.lane.endpoint_id, headers.source)
        if headers.flags & ACK:
            judged = self._acknowledged(flow, packet, headers, now)
            if judged is not FINE:
                return judged
        payload = packet.payload
        if headers.flags & SYN and self._is_other_stream(flow, packet.to_server, headers):
            return Judged(drop="stream_conflict")
        if not payload or not flow._inspection.on_data or headers.flags & RST:
            return FINE
        if not headers.flags & SYN and self._credible.is_suspect(flow, packet.to_server):
            return Judged(drop="stream_out_of_order")
        stream = self._stream(flow, packet.to_server, headers)
        seq = headers.seq + 1 if headers.flags & SYN else headers.seq
        push = stream.push(seq & 0xFFFFFFFF, payload)
        if push.status in _REFUSED:
            return Judged(drop=_REFUSED[push.status])
        if push.overlap or push.status is Status.REPEAT:
            replacement = stream.replacement(seq & 0xFFFFFFFF, payload)
            if replacement is not None:
                packet.patch(0, replacement)
        if not push.fresh:
            return FINE
        if push.gap:
            refused = _gap_refused(flow)
            if refused is not None:
                return refused
        return self._tell(
            flow, packet, push.fresh, push.offset, push.gap, push.overlap, stream, now
        )

    def take_holds(self) -> list[tuple[Seat, Hold]]:
        """The verdicts to be waited for that `judge` was given."""
        holds, self.holds = self.holds, []
        return holds

    def attached(self, flow: Flow, new: bool) -> None:
        """A handler of the flow wants bytes; `new`: from the first one on.

        A stream that others look at already goes on: what was copied from beyond a hole must still
        be shown, and what was shown must not come again with other bytes.
        """
        inspection = flow._inspection
        if inspection.streams is None:
            inspection.streams = [None, None] if new and flow.tcp is not None else None
            return
        for stream in inspection.streams:
            if stream is not None:
                stream.serve(**_wishes(flow))

    def close(self, flow: Flow) -> None:
        """The flow ended or is decided: give its memory back."""
        inspection = flow._inspection
        if inspection.streams is not None:
            for stream in inspection.streams:
                if stream is not None:
                    stream.close()
            inspection.streams = None

    def _acknowledged(self, flow: Flow, packet: Packet, headers: Headers, now: float) -> Judged:
        """The sender of this packet has what it acknowledges: also what was never seen here."""
        streams = flow._inspection.streams
        stream = streams[not packet.to_server] if streams is not None else None
        judged = FINE
        while stream is not None and judged is FINE and stream.acknowledge(headers.ack):
            push = stream.take_pending()
            judged = _gap_refused(flow) or self._tell(
                flow, packet, push.fresh, push.offset, push.gap, 0, stream, now, reverse=True
            )
        return judged

    def _is_other_stream(self, flow: Flow, to_server: bool, headers: Headers) -> bool:
        """A SYN of the handshake with another number than one whose bytes were shown already."""
        streams = flow._inspection.streams
        stream = streams[to_server] if streams is not None else None
        half_open = flow.tcp is not None and flow.tcp.half_open
        return stream is not None and half_open and not stream.begins_at(headers.seq + 1)

    def _stream(self, flow: Flow, to_server: bool, headers: Headers) -> StreamBuffer:
        streams = flow._inspection.streams
        complete = streams is not None
        if streams is None:
            streams = flow._inspection.streams = [None, None]
        stream = streams[to_server]
        if stream is None:
            tcp = flow.tcp
            # Only the SYN says where a stream begins: what else looks like the next number may be
            # that of a packet which its receiver has ignored.
            start = tcp.start(to_server) if tcp is not None and complete else None
            if headers.flags & SYN and (tcp is None or tcp.half_open or not tcp.known(to_server)):
                start = (headers.seq + 1) & 0xFFFFFFFF
            begun = start is not None
            if start is None:
                known = tcp is not None and tcp.known(to_server)
                start = tcp.next_seq(to_server) if tcp is not None and known else headers.seq
            stream = streams[to_server] = StreamBuffer(
                start, self._limits, self._budget, begun=begun, **_wishes(flow)
            )
            acked = tcp.acked(to_server) if tcp is not None and begun else None
            if acked is not None:
                stream.acknowledge(acked)
        return stream

    def _tell(
        self,
        flow: Flow,
        packet: Packet,
        fresh: bytes,
        offset: int,
        gap: int,
        overlap: int,
        stream: StreamBuffer | None,
        now: float,
        reverse: bool = False,
    ) -> Judged:
        """Ask each handler about new bytes; what one masks is what the next one sees."""
        to_server = packet.to_server is not reverse
        sent = fresh
        guard = self._guard
        for seat, hook in flow._inspection.on_data:
            handler = hook.__self__
            before = b""
            if handler.lookback and stream is not None and not gap:
                before = stream.lookback(handler.lookback)
            chunk = Chunk(before + sent, to_server, offset, len(before), gap)
            guard.calling = seat
            try:
                outcome = hook(chunk)
            except Exception as error:  # a vendor's code may raise anything; the guard counts it
                outcome = guard.failed(seat, "data", error, now)
            if outcome is None and chunk._masks is None:
                continue
            if isinstance(outcome, Hold):
                self.holds.append((seat, outcome))
                outcome = None
            elif outcome is not None and not isinstance(outcome, Verdict):
                outcome = guard.nonsense(seat, "data", outcome, now)
            masked = chunk.masked()
            if masked is not None:
                here = _length(packet) - overlap
                if not handler.edits:
                    problem = f"mask() needs `edits = True` in {type(handler).__name__}"
                    outcome = guard.failed(seat, "data", ValueError(problem), now)
                elif reverse or masked[here:] != sent[here:]:
                    problem = "mask() of bytes that left before this handler came"
                    outcome = guard.failed(seat, "data", ValueError(problem), now)
                else:
                    sent = masked
            if outcome is None or outcome.action is Action.CONTINUE:
                continue
            if outcome.action is Action.DONE:
                self._detach(flow, seat)
                continue
            if outcome.action is Action.DROP and stream is not None:
                # The bytes are consumed: what was judged would not be what is sent again.
                outcome = Verdict(Action.BLOCK, outcome.reason, outcome.rule, outcome.payload)
            return Judged(verdict=outcome, seat=seat)
        if sent is not fresh:
            packet.patch(overlap, sent[: _length(packet) - overlap])
            if stream is not None:
                stream.edited(offset, sent)
        return FINE
