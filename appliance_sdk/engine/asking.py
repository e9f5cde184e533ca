"""What the handlers of a flow say about a packet of it, and what is done about that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from appliance_sdk.engine.credibility import is_damaged
from appliance_sdk.engine.decision import ASKED, BLOCKED, FORWARD, HANDLED, HELD, REPLACED, Place
from appliance_sdk.engine.held import Waiting
from appliance_sdk.engine.streams import FINE, Judged
from appliance_sdk.errors import MalformedPacket
from appliance_sdk.flow.direction import is_icmp_error
from appliance_sdk.flow.key import pack_ends
from appliance_sdk.plugin.events import Dropped
from appliance_sdk.plugin.flow import Flow
from appliance_sdk.plugin.hold import Hold
from appliance_sdk.plugin.manager import Seat
from appliance_sdk.plugin.packet import Packet
from appliance_sdk.plugin.verdict import Action, Verdict
from appliance_sdk.wire.packet import RST, Headers, parse_packet, parse_quoted

if TYPE_CHECKING:
    from appliance_sdk.engine.engine import Engine
    from appliance_sdk.wire.buffer import Buffer


class Asking:
    """Asks the handlers of one engine's flows."""

    def __init__(self, engine: Engine, *, debug: bool) -> None:
        self._engine = engine
        self._guard = engine.guard
        self._debug = debug
        self._streams = engine.streams
        self._find = engine.table.find
        self.one_view = Packet()
        """What all packets are seen through, but in debug mode."""
        self._host = engine.host
        self._host.packet = self.one_view

    def usual(self, flow: Flow, to_server: bool, buffer: Buffer, start: int, length: int) -> int:
        """The short way of a datagram with GWLB's own header, at `start`, and a TCP or UDP packet
        of `length` bytes in it, encapsulated as the flow is.

        ASKED if all handlers let it pass as it is: no header was read that none of them wanted,
        and it has not counted for TCP.
        """
        inner = start + 40
        end = inner + length
        inspection = flow._inspection
        if inspection.record is not None:
            datagram = bytes(buffer[start:end])
            self._engine.recording.add(flow, to_server, flow.peer, flow._envelope.local, datagram)
        if flow.mode != HANDLED or self._debug:
            place = flow.peer, flow._envelope.local, buffer, start, inner
            return self.packet(flow, to_server, buffer, inner, end, None, place)
        packet, guard, hooks = self.one_view, self._guard, inspection.on_packet
        packet.refill(buffer, inner, end, None, to_server)
        self._host.judged = flow
        for entry in hooks:
            seat, hook = entry
            guard.calling = seat
            try:
                outcome = hook(packet)
            except Exception as error:  # a vendor's code may raise anything; the guard counts it
                outcome = guard.failed(seat, "packet", error, self._engine.now)
            if outcome is not None:
                holds: list[tuple[Seat, Hold]] = []
                verdict = self._say(seat, outcome, flow, holds)
                by: Seat | None = seat
                if verdict is None:
                    rest = hooks[hooks.index(entry) + 1 :]
                    verdict, by = self.ask_hooks(flow, packet, rest, holds)
                judged = Judged("", verdict, by)
                if verdict is None and inspection.on_data and flow.mode != BLOCKED:
                    judged = self._streams.usual(flow, packet, self._engine.now)
                place = flow.peer, flow._envelope.local, buffer, start, inner
                return self._answered(flow, packet, judged, holds, buffer, inner, end, None, place)
        judged = FINE
        if inspection.on_data and flow.mode != BLOCKED:
            judged = self._streams.usual(flow, packet, self._engine.now)
        if (
            judged is not FINE
            or packet._edited is not None
            or self._streams.holds
            or flow.mode == BLOCKED
        ):
            place = flow.peer, flow._envelope.local, buffer, start, inner
            return self._answered(flow, packet, judged, [], buffer, inner, end, None, place)
        self._host.judged = None
        packet.retire()
        return ASKED

    def packet(
        self,
        flow: Flow,
        to_server: bool,
        buffer: Buffer,
        start: int,
        end: int,
        headers: Headers | None,
        place: Place,
    ) -> int:
        """Ask the handlers of a flow about a packet of it, and do what they say."""
        engine = self._engine
        if headers is None:
            headers = parse_packet(buffer, start, end)
        if flow.mode == BLOCKED:
            return self.refuse(flow, buffer, start, headers, to_server)
        if flow.mode == HELD:
            peer, local, _buffer, datagram, inner = place
            data = bytes(buffer[datagram:end])
            reason = engine.holding.queue(flow, peer, local, data, inner - datagram, to_server)
            return engine.drop(reason) if reason else REPLACED
        if flow.mode != HANDLED:
            return self.pass_on(flow, to_server, headers, None, place)
        packet = self.view(flow, buffer, start, end, headers, to_server)
        holds: list[tuple[Seat, Hold]] = []
        verdict, seat = self.ask_hooks(flow, packet, flow._inspection.on_packet, holds)
        judged = Judged("", verdict, seat)
        if verdict is None and flow._inspection.on_data and flow.mode != BLOCKED:
            judged = self._streams.judge(flow, packet, engine.now)
        return self._answered(flow, packet, judged, holds, buffer, start, end, headers, place)

    def _answered(
        self,
        flow: Flow,
        packet: Packet,
        judged: Judged,
        holds: list[tuple[Seat, Hold]],
        buffer: Buffer,
        start: int,
        end: int,
        headers: Headers | None,
        place: Place,
    ) -> int:
        """Do what the handlers said: a verdict with its plugin, or the stream's reason to drop."""
        engine = self._engine
        drop, verdict, seat = judged
        if self._streams.holds:
            holds += self._streams.take_holds()
        to_server, edited = packet.to_server, packet.edited()
        self.release(packet)
        if headers is None:
            headers = parse_packet(buffer, start, end)
        if holds and (drop or verdict is not None or flow.mode == BLOCKED):
            discard(holds)
        elif holds and place[3] == place[4]:  # put together: its fragments are on their way
            discard(holds)
            return engine.drop("hold_fragment")
        elif holds:
            data = bytes(buffer[place[3] : end])
            waiting = Waiting(bytes(place[0]), place[1], data, start - place[3], to_server)
            waiting.asked, waiting.edited = True, edited
            refused = engine.holding.refused(holds, len(data))
            if refused is None:
                engine.holding.begin(flow, holds, waiting)
                return REPLACED
            if refused[0].terminal:
                verdict, seat = refused
        if drop:
            engine.anomalies.add("stream", drop)
            return engine.drop(drop)
        if verdict is not None:
            if verdict.action is not Action.DROP:
                engine.lifecycle.decide(flow, verdict, seat)
            name = seat.name if seat else ""
            return self.dropped(flow, verdict, name, buffer, start, headers, to_server)
        if flow.mode == BLOCKED:  # a handler called flow.set()
            return self.refuse(flow, buffer, start, headers, to_server)
        return self.pass_on(flow, to_server, headers, edited, place)

    def pass_on(
        self,
        flow: Flow,
        to_server: bool,
        headers: Headers,
        edited: bytearray | None,
        place: Place,
    ) -> int:
        """Nobody objects to a packet: it counts for TCP, and goes on as it is or as edited."""
        engine, buffer = self._engine, place[2]
        tcp = flow.tcp
        if tcp is not None and not (headers.flags & RST and is_damaged(buffer, headers)):
            before = tcp.state
            length = headers.end - headers.payload
            tcp.advance(to_server, headers.flags, headers.seq, headers.ack, length)
            if tcp.state != before:
                engine.lifecycle.tcp_changed(flow)
        if edited is None:
            return FORWARD
        peer, local, whole, datagram, inner = place
        engine.edited += 1
        engine.outbox.append((peer, local, bytes(whole[datagram:inner]) + edited))
        return REPLACED

    def ask_hooks(
        self,
        flow: Flow,
        packet: Packet,
        hooks: Sequence[tuple[Seat, Any]],
        holds: list[tuple[Seat, Hold]],
    ) -> tuple[Verdict | None, Seat | None]:
        """Ask about a packet: the first terminal verdict, if any. What is to be waited for is added
        to `holds`, and the others are asked meanwhile."""
        guard, now = self._guard, self._engine.now
        for seat, hook in hooks:
            guard.calling = seat
            try:
                outcome = hook(packet)
            except Exception as error:  # a vendor's code may raise anything; the guard counts it
                outcome = guard.failed(seat, "packet", error, now)
            if outcome is not None:
                verdict = self._say(seat, outcome, flow, holds)
                if verdict is not None:
                    return verdict, seat
        return None, None

    def _say(
        self, seat: Seat, outcome: Any, flow: Flow, holds: list[tuple[Seat, Hold]]
    ) -> Verdict | None:
        """What one handler says: a terminal verdict is returned, the rest is done."""
        if isinstance(outcome, Hold):
            holds.append((seat, outcome))
            return None
        verdict: Verdict | None = outcome
        if not isinstance(outcome, Verdict):
            verdict = self._guard.nonsense(seat, "packet", outcome, self._engine.now)
        if verdict is None or verdict.action >= Action.DROP:
            return verdict
        if verdict.action is Action.DONE:
            self._engine.detach(flow, seat)
        return None

    def view(
        self, flow: Flow, buffer: Buffer, start: int, end: int, headers: Headers, to_server: bool
    ) -> Packet:
        """A packet as plugins see it, in hand until `release`."""
        packet = Packet() if self._debug else self.one_view
        packet.refill(buffer, start, end, headers, to_server)
        if is_icmp_error(headers):
            packet.related = self._related(flow.lane.endpoint_id, buffer, headers)
        self._host.judged, self._host.packet = flow, packet
        return packet

    def release(self, packet: Packet) -> None:
        """The plugins have seen it."""
        self._host.judged = None
        packet.retire()

    def refuse(
        self, flow: Flow, buffer: Buffer, start: int, headers: Headers, to_server: bool
    ) -> int:
        """A packet of a decided flow: all of the verdict for the first one, then its action."""
        engine = self._engine
        if not flow.reported:
            by = flow.decided_by
            return self.dropped(flow, flow.verdict, by, buffer, start, headers, to_server)
        if flow.verdict.action is Action.REJECT:
            engine.answers.reject(flow, buffer, start, headers, to_server, engine.now)
        return engine.drop(f"plugin_{flow.verdict.name}")

    def dropped(
        self,
        flow: Flow,
        verdict: Verdict,
        plugin: str,
        buffer: Buffer,
        start: int,
        headers: Headers,
        to_server: bool,
    ) -> int:
        """A verdict drops this packet: answer it if the verdict says so, and report it once."""
        engine = self._engine
        length = headers.end - headers.payload
        if verdict.payload is not None:
            engine.answers.reply(flow, headers, verdict.payload, to_server, length, engine.now)
        elif verdict.action is Action.REJECT:
            engine.answers.reject(flow, buffer, start, headers, to_server, engine.now)
        if not flow.reported:
            flow.reported = True
            engine.host.report(
                Dropped(
                    action=verdict.name,
                    reason=verdict.reason,
                    rule=verdict.rule,
                    to_server=to_server,
                    length=headers.end - start,
                ),
                flow,
                plugin,
            )
        return engine.drop(f"plugin_{verdict.name}")

    def _related(self, endpoint_id: int, buffer: Buffer, headers: Headers) -> Flow | None:
        """The flow that an ICMP error quotes, after its eight bytes (RFC 792, RFC 4443)."""
        try:
            quoted = parse_quoted(buffer, headers.transport + 8, headers.end)
        except MalformedPacket:
            return None
        return self._find(endpoint_id, quoted.protocol, ends_of(quoted))


def discard(holds: Sequence[tuple[Seat, Hold]]) -> None:
    """Nobody will wait for these."""
    for _, hold in holds:
        hold.discard()


def ends_of(headers: Headers) -> bytes:
    """Both ends of a packet: what its flow is found by."""
    return pack_ends(
        headers.source, headers.destination, headers.source_port, headers.destination_port
    )
