"""Application bytes to handlers: reassembly, look-back, gaps and edits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from appliance_sdk.engine.credibility import Credibility
from appliance_sdk.engine.guard import Guard
from appliance_sdk.engine.settings import EngineSettings
from appliance_sdk.flow.reassembly import Budget, Status, StreamBuffer
from appliance_sdk.plugin.chunk import Chunk
from appliance_sdk.plugin.hold import Hold
from appliance_sdk.plugin.verdict import Action, Verdict
from appliance_sdk.wire.packet import ACK, RST, SYN, Headers

if TYPE_CHECKING:
    from appliance_sdk.plugin.flow import Flow
    from appliance_sdk.plugin.manager import Seat
    from appliance_sdk.plugin.packet import Packet

_TCP = 6
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


_FINE = Judged()


def _wishes(flow: Flow) -> dict[str, Any]:
    """What the handlers of a flow want of its streams."""
    handlers = [hook.__self__ for _seat, hook in flow._on_data]
    return {
        "ordered": any(h.edits for h in handlers),
        "lookback": max((h.lookback for h in handlers), default=0),
    }


def _gap_refused(flow: Flow) -> Judged | None:
    """The verdict of the first plugin that does not put up with lost bytes."""
    for seat, _hook in flow._on_data:
        if seat.gap.action is not Action.CONTINUE:
            verdict = seat.gap.because("stream bytes were lost to inspection", rule="gap")
            return Judged(verdict=verdict, seat=seat)
    return None


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
        self._holds: list[tuple[Seat, Hold]] = []

    def judge(self, flow: Flow, packet: Packet, now: float) -> Judged:
        """Show what the packet brings; it is forwarded unless the answer says otherwise."""
        headers = packet.headers
        if headers.protocol != _TCP:
            payload = packet.payload
            return self._tell(flow, packet, payload, 0, 0, 0, None, now) if payload else _FINE
        if self._credible.is_ignored(flow, packet):
            return Judged(drop="stream_ignored")
        if not packet.to_server:
            self._credible.hear(flow)
        if headers.flags & ACK:
            judged = self._acknowledged(flow, packet, headers, now)
            if judged is not _FINE:
                return judged
        payload = packet.payload
        if headers.flags & SYN and self._is_other_stream(flow, packet.to_server, headers):
            return Judged(drop="stream_conflict")
        if not payload or not flow._on_data or headers.flags & RST:
            return _FINE
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
            return _FINE
        if push.gap:
            refused = _gap_refused(flow)
            if refused is not None:
                return refused
        return self._tell(
            flow, packet, push.fresh, push.offset, push.gap, push.overlap, stream, now
        )

    def take_holds(self) -> list[tuple[Seat, Hold]]:
        """The verdicts to be waited for that `judge` was given."""
        if not self._holds:
            return []
        holds, self._holds = self._holds, []
        return holds

    def attached(self, flow: Flow, new: bool) -> None:
        """A handler of the flow wants bytes; `new`: from the first one on.

        A stream that others look at already goes on: what was copied from beyond a hole must still
        be shown, and what was shown must not come again with other bytes.
        """
        if flow._streams is None:
            flow._streams = [None, None] if new and flow.tcp is not None else None
            return
        for stream in flow._streams:
            if stream is not None:
                stream.serve(**_wishes(flow))

    def close(self, flow: Flow) -> None:
        """The flow ended or is decided: give its memory back."""
        if flow._streams is not None:
            for stream in flow._streams:
                if stream is not None:
                    stream.close()
            flow._streams = None

    def _acknowledged(self, flow: Flow, packet: Packet, headers: Headers, now: float) -> Judged:
        """The sender of this packet has what it acknowledges: also what was never seen here."""
        stream = flow._streams[not packet.to_server] if flow._streams is not None else None
        judged = _FINE
        while stream is not None and judged is _FINE and stream.acknowledge(headers.ack):
            push = stream.take_pending()
            judged = _gap_refused(flow) or self._tell(
                flow, packet, push.fresh, push.offset, push.gap, 0, stream, now, reverse=True
            )
        return judged

    def _is_other_stream(self, flow: Flow, to_server: bool, headers: Headers) -> bool:
        """A SYN of the handshake with another number than one whose bytes were shown already."""
        stream = flow._streams[to_server] if flow._streams is not None else None
        half_open = flow.tcp is not None and flow.tcp.half_open
        return stream is not None and half_open and not stream.begins_at(headers.seq + 1)

    def _stream(self, flow: Flow, to_server: bool, headers: Headers) -> StreamBuffer:
        complete = flow._streams is not None
        if flow._streams is None:
            flow._streams = [None, None]
        stream = flow._streams[to_server]
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
            stream = flow._streams[to_server] = StreamBuffer(
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
        headers = packet.headers
        here = headers.end - headers.payload - overlap
        for seat, hook in flow._on_data:
            handler = hook.__self__
            before = stream.lookback(handler.lookback) if stream and handler.lookback else b""
            if gap:
                before = b""
            chunk = Chunk(before + sent, to_server, offset=offset, fresh=len(before), gap=gap)
            outcome = self._ask(seat, hook, chunk, now)
            if isinstance(outcome, Hold):
                self._holds.append((seat, outcome))
                outcome = None
            masked = chunk.masked()
            if masked is not None:
                if not handler.edits:
                    problem = f"mask() needs `edits = True` in {type(handler).__name__}"
                    outcome = self._guard.failed(seat, "data", ValueError(problem), now)
                elif reverse or masked[here:] != sent[here:]:
                    problem = "mask() of bytes that left before this handler came"
                    outcome = self._guard.failed(seat, "data", ValueError(problem), now)
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
            packet.patch(overlap, sent[:here])
            if stream is not None:
                stream.edited(offset, sent)
        return _FINE

    def _ask(self, seat: Seat, hook: Any, chunk: Chunk, now: float) -> Verdict | Hold | None:
        self._guard.calling = seat
        try:
            outcome = hook(chunk)
        except Exception as error:  # a vendor's code may raise anything; the guard counts it
            return self._guard.failed(seat, "data", error, now)
        if outcome is None or isinstance(outcome, Verdict | Hold):
            return outcome
        return self._guard.nonsense(seat, "data", outcome, now)
