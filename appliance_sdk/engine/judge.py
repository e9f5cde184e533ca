"""A packet's way through the engine: its flow, the handlers of the flow, and what they say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from appliance_sdk.engine.direction import is_icmp_error
from appliance_sdk.engine.held import Waiting
from appliance_sdk.engine.lifecycle import BLOCKED, HANDLED, HELD
from appliance_sdk.errors import MalformedPacket
from appliance_sdk.flow.fragments import Fragment
from appliance_sdk.flow.key import FlowKey
from appliance_sdk.plugin.events import Dropped
from appliance_sdk.plugin.flow import Flow
from appliance_sdk.plugin.hold import Hold
from appliance_sdk.plugin.manager import Seat
from appliance_sdk.plugin.packet import Packet
from appliance_sdk.plugin.verdict import Action, Verdict
from appliance_sdk.wire.checksum import transport_checksum
from appliance_sdk.wire.geneve import parse_geneve
from appliance_sdk.wire.packet import RST, TCP, URG, Headers, parse_packet, parse_quoted

if TYPE_CHECKING:
    from appliance_sdk.engine.engine import Engine
    from appliance_sdk.wire.buffer import Buffer

FORWARD, DROP, REPLACED = 0, 1, 2
"""What to do with a datagram: send it back as received, nothing, or send what is in the outbox."""

_Place: TypeAlias = tuple[bytes, bytes, "Buffer", int, int]
"""Where a packet stands: peer, local, buffer, start of the datagram, start of the inner packet."""


class Judge:
    """Decides about the packets of one engine, and counts and reports what it drops."""

    def __init__(self, engine: Engine, *, debug: bool) -> None:
        self._engine = engine
        self._debug = debug
        self._get = engine.table.get
        self._packet = Packet()

    def datagram(self, buffer: Buffer, start: int, end: int, peer: bytes, local: bytes) -> int:
        """Any header, any packet: what the fast path did not take. Raises MalformedPacket."""
        engine = self._engine
        geneve = parse_geneve(buffer, start, end, strict=engine.settings.strict)
        inner = start + geneve.length
        headers = parse_packet(buffer, inner, end)
        if headers.end - inner > engine.settings.mtu_bytes:
            return engine.drop("too_long")
        place = peer, local, buffer, start, inner
        if headers.is_fragment:
            span = peer, local, start, inner, end
            divert = engine.divert
            if divert is not None and divert(geneve.endpoint_id, headers, buffer, span, engine.now):
                engine.received -= 1
                return REPLACED
            return self._fragment(headers, geneve.endpoint_id, geneve.cookie, place, end)
        key = _key(geneve.endpoint_id, headers)
        found = self._find(key, headers, geneve.cookie, place, inner, end)
        if isinstance(found, int):
            return found
        flow, to_server = found
        return self._count_and_judge(flow, to_server, geneve.cookie, headers, place, inner, end)

    def _find(
        self, key: FlowKey, headers: Headers, cookie: int, place: _Place, start: int, end: int
    ) -> tuple[Flow, bool] | int:
        """The flow of a packet, opened if it has none; else the decision about the packet."""
        engine = self._engine
        entry = self._get(key)
        if entry is not None and not engine.lifecycle.is_replaced(entry[0], headers, cookie):
            return entry
        _peer, _local, buffer, datagram, inner = place
        if entry is not None:
            engine.lifecycle.close(entry[0], "replaced")
        zone = engine.pipeline.endpoints.get(key[0])
        if zone is None:
            engine.lifecycle.unknown_endpoint(key[0])
            if engine.settings.unknown_endpoint != "continue":
                return engine.drop("unknown_endpoint")
            zone = engine.pipeline.default
        if key[2] == key[3] and key[4] == key[5]:
            return engine.drop("land")
        if _is_multicast(key[3]):
            return engine.drop("multicast")
        if engine.table.full and not engine.lifecycle.make_room():
            return (
                FORWARD if engine.settings.table_full == "continue" else engine.drop("table_full")
            )
        flow, to_server = engine.lifecycle.new_flow(key, headers, zone)
        engine.encapsulate(flow, buffer, datagram, inner - datagram, cookie, place[0], place[1])
        packet = self._view(flow, buffer, start, end, headers, to_server)
        verdict, seat = engine.lifecycle.ask(flow, packet)
        self._release(flow, packet)
        if isinstance(verdict, Hold):
            assert seat is not None
            return self._hold_new(flow, verdict, seat, place, headers, to_server)
        if verdict is not None and verdict.action is Action.DROP:
            name = seat.name if seat else ""
            return self._dropped(flow, verdict, name, buffer, start, headers, to_server)
        engine.lifecycle.admit(flow)
        if verdict is not None:
            engine.lifecycle.decide(flow, verdict, seat)
        return flow, to_server

    def _hold_new(
        self,
        flow: Flow,
        hold: Hold,
        seat: Seat,
        place: _Place,
        headers: Headers,
        to_server: bool,
    ) -> tuple[Flow, bool] | int:
        """A new flow waits, and its first packet with it; unless there is no room to wait."""
        engine = self._engine
        engine.lifecycle.admit(flow)
        refused = engine.holding.begin(flow, [(seat, hold)], True, None)
        if refused is None:
            return flow, to_server
        verdict, seat = refused
        if verdict.action is Action.DROP:
            dropped = self._dropped(
                flow, verdict, seat.name, place[2], place[4], headers, to_server
            )
            engine.lifecycle.close(flow, "dropped")
            return dropped
        engine.lifecycle.decide(flow, verdict, seat)
        return flow, to_server

    def ask_again(
        self, flow: Flow, waiting: Waiting, first: int
    ) -> tuple[Verdict | Hold | None, Seat | None]:
        """Ask the plugins from number `first` on about a new flow, by a packet that has waited."""
        datagram, inner = waiting.datagram, waiting.inner
        end = len(datagram)
        headers = parse_packet(datagram, inner, end)
        packet = self._view(flow, datagram, inner, end, headers, waiting.to_server)
        answer = self._engine.lifecycle.ask(flow, packet, first)
        self._release(flow, packet)
        return answer

    def release(self, flow: Flow, waiting: Waiting) -> None:
        """Judge a packet that has waited, and put what is to be sent into the outbox."""
        datagram, inner, to_server = waiting.datagram, waiting.inner, waiting.to_server
        headers = parse_packet(datagram, inner, len(datagram))
        place = waiting.peer, waiting.local, datagram, 0, inner
        if waiting.asked and flow.mode != BLOCKED:
            decision = self._pass_on(flow, to_server, headers, waiting.edited, place)
        else:
            decision = self.packet(flow, to_server, datagram, inner, len(datagram), headers, place)
        if decision == FORWARD:
            self._engine.outbox.append((waiting.peer, waiting.local, datagram))

    def drop_waiting(self, flow: Flow, waiting: Waiting, verdict: Verdict, plugin: str) -> None:
        """A verdict drops a packet that has waited."""
        headers = parse_packet(waiting.datagram, waiting.inner, len(waiting.datagram))
        self._dropped(
            flow, verdict, plugin, waiting.datagram, waiting.inner, headers, waiting.to_server
        )

    def _count_and_judge(
        self,
        flow: Flow,
        to_server: bool,
        cookie: int,
        headers: Headers,
        place: _Place,
        start: int,
        end: int,
    ) -> int:
        peer, local, buffer, datagram, inner = place
        self._count(flow, to_server, headers.end - start)
        if cookie != flow.cookie or peer != flow.encapsulation[0]:
            self._engine.encapsulate(flow, buffer, datagram, inner - datagram, cookie, peer, local)
        return self.packet(flow, to_server, buffer, start, end, headers, place)

    def packet(
        self,
        flow: Flow,
        to_server: bool,
        buffer: Buffer,
        start: int,
        end: int,
        headers: Headers | None,
        place: _Place,
    ) -> int:
        """Ask the handlers of a flow about a packet of it, and do what they say."""
        engine = self._engine
        if headers is None:
            headers = parse_packet(buffer, start, end)
        if flow.mode == BLOCKED:
            return self._refuse(flow, buffer, start, headers, to_server)
        if flow.mode == HELD:
            datagram, inner = place[3], place[4]
            data = bytes(buffer[datagram:end])
            reason = engine.holding.queue(
                flow, place[0], place[1], data, inner - datagram, to_server
            )
            return engine.drop(reason) if reason else REPLACED
        edited: bytearray | None = None
        if flow.mode == HANDLED:
            packet = self._view(flow, buffer, start, end, headers, to_server)
            holds: list[tuple[Seat, Hold]] = []
            verdict, seat, drop = self._ask_handlers(flow, packet, holds)
            edited = packet.edited()
            self._release(flow, packet)
            if holds and (drop or verdict is not None or flow.mode == BLOCKED):
                _discard(holds)
            elif holds and place[3] == place[4]:  # put together: its fragments are on their way
                _discard(holds)
                return engine.drop("hold_fragment")
            elif holds:
                data = bytes(buffer[place[3] : end])
                waiting = Waiting(bytes(place[0]), place[1], data, start - place[3], to_server)
                waiting.asked, waiting.edited = True, edited
                refused = engine.holding.begin(flow, holds, False, waiting)
                if refused is None:
                    return REPLACED
                if refused[0].terminal:
                    verdict, seat = refused
            if drop:
                engine.anomaly("stream", drop)
                return engine.drop(drop)
            if verdict is not None:
                if verdict.action is not Action.DROP:
                    engine.lifecycle.decide(flow, verdict, seat)
                name = seat.name if seat else ""
                return self._dropped(flow, verdict, name, buffer, start, headers, to_server)
            if flow.mode == BLOCKED:  # a handler called flow.set()
                return self._refuse(flow, buffer, start, headers, to_server)
        return self._pass_on(flow, to_server, headers, edited, place)

    def _pass_on(
        self,
        flow: Flow,
        to_server: bool,
        headers: Headers,
        edited: bytearray | None,
        place: _Place,
    ) -> int:
        """Nobody objects to a packet: it counts for TCP, and goes on as it is or as edited."""
        engine, buffer = self._engine, place[2]
        tcp = flow.tcp
        if tcp is not None and not (headers.flags & RST and _is_damaged(buffer, headers)):
            before = tcp.state
            length = headers.end - headers.payload
            tcp.advance(to_server, headers.flags, headers.seq, headers.ack, length, headers.window)
            if tcp.state != before:
                engine.lifecycle.tcp_changed(flow)
        if edited is None:
            return FORWARD
        peer, local, whole, datagram, inner = place
        engine.edited += 1
        engine.outbox.append((peer, local, bytes(whole[datagram:inner]) + edited))
        return REPLACED

    def _ask_handlers(
        self, flow: Flow, packet: Packet, holds: list[tuple[Seat, Hold]]
    ) -> tuple[Verdict | None, Seat | None, str]:
        """The first terminal verdict, or the reason for which the stream refuses the packet.

        Verdicts to be waited for are added to `holds`; the others are asked meanwhile.
        """
        engine = self._engine
        verdict, seat = self._ask_packet_hooks(flow, packet, flow._on_packet, holds)
        if verdict is not None:
            return verdict, seat, ""
        if flow._on_data and flow.mode != BLOCKED:
            if packet.headers.flags & URG:
                packet.clear_urgent()
            judged = engine.streams.judge(flow, packet, engine.now)
            holds += engine.streams.take_holds()
            return judged.verdict, judged.seat, judged.drop
        return None, None, ""

    def _ask_packet_hooks(
        self,
        flow: Flow,
        packet: Packet,
        hooks: Sequence[tuple[Seat, Any]],
        holds: list[tuple[Seat, Hold]],
    ) -> tuple[Verdict | None, Seat | None]:
        engine = self._engine
        for seat, hook in hooks:
            engine.guard.calling = seat
            try:
                outcome = hook(packet)
                if isinstance(outcome, Hold):
                    holds.append((seat, outcome))
                    continue
                if outcome is not None and not isinstance(outcome, Verdict):
                    outcome = engine.guard.nonsense(seat, "packet", outcome, engine.now)
            except Exception as error:  # a vendor's code may raise anything; the guard counts it
                outcome = engine.guard.failed(seat, "packet", error, engine.now)
            if outcome is None:
                continue
            if outcome.action >= Action.DROP:
                return outcome, seat
            if outcome.action is Action.DONE:
                engine.detach(flow, seat)
        return None, None

    def _fragment(
        self, headers: Headers, endpoint_id: int, cookie: int, place: _Place, end: int
    ) -> int:
        """A fragment shares the fate of its first one; the last to come is judged as the whole."""
        engine = self._engine
        _peer, _local, buffer, _datagram, inner = place
        fragment = engine.fragments.add(endpoint_id, headers, buffer, inner, engine.now)
        if fragment.reason:
            engine.anomaly("fragment", fragment.reason)
            return engine.drop(fragment.reason)
        judged = self._judge_fragment(headers, endpoint_id, cookie, place, end, fragment)
        if judged == DROP and fragment.whole is not None:
            engine.fragments.refuse(fragment.entry)
        return judged

    def _judge_fragment(
        self,
        headers: Headers,
        endpoint_id: int,
        cookie: int,
        place: _Place,
        end: int,
        fragment: Fragment,
    ) -> int:
        engine = self._engine
        inner = place[4]
        entry = fragment.entry
        if headers.fragment_offset == 0:
            key = _key(endpoint_id, headers)
            found = self._find(key, headers, cookie, place, inner, end)
            if isinstance(found, int):
                entry.drop = found == DROP
                return found
            entry.owner = found
        if entry.drop or entry.owner is None:
            return engine.drop("fragment_verdict")
        flow, to_server = entry.owner
        if flow.end_reason:
            return engine.drop("fragment_verdict")
        self._count(flow, to_server, headers.end - inner)
        if flow.mode == HELD:
            entry.drop = True
            return engine.drop("hold_fragment")
        if flow.mode == BLOCKED:
            entry.drop = True
            return self._refuse(flow, place[2], inner, headers, to_server)
        if flow.mode == HANDLED and headers.fragment_offset == 0:
            judged = self._first_fragment(flow, to_server, place[2], inner, end, headers)
            if judged == DROP:
                entry.drop = True
                return DROP
        if fragment.whole is None:
            return FORWARD
        whole = fragment.whole
        judged = self.packet(flow, to_server, whole, 0, len(whole), None, (*place[:2], whole, 0, 0))
        if judged == REPLACED:
            engine.outbox.pop()
            engine.edited -= 1
            return engine.drop("fragment_edited")
        return judged

    def _first_fragment(
        self, flow: Flow, to_server: bool, buffer: Buffer, start: int, end: int, headers: Headers
    ) -> int:
        """Ask the handlers that want to see it: its headers decide about what follows, too."""
        hooks = [(seat, hook) for seat, hook in flow._on_packet if hook.__self__.fragments]
        if not hooks:
            return FORWARD
        packet = self._view(flow, buffer, start, end, headers, to_server)
        holds: list[tuple[Seat, Hold]] = []
        verdict, seat = self._ask_packet_hooks(flow, packet, hooks, holds)
        self._release(flow, packet)
        _discard(holds)
        if verdict is None:
            return self._engine.drop("hold_fragment") if holds else FORWARD
        if verdict.action is not Action.DROP:
            self._engine.lifecycle.decide(flow, verdict, seat)
        name = seat.name if seat else ""
        return self._dropped(flow, verdict, name, buffer, start, headers, to_server)

    def _count(self, flow: Flow, to_server: bool, length: int) -> None:
        engine = self._engine
        stats = flow.to_server if to_server else flow.to_client
        stats.packets += 1
        stats.bytes += length
        flow.last_seen = engine.now
        if flow.half_open and flow.tcp is None and not to_server:
            engine.lifecycle.answered(flow)

    def _view(
        self, flow: Flow, buffer: Buffer, start: int, end: int, headers: Headers, to_server: bool
    ) -> Packet:
        packet = Packet() if self._debug else self._packet
        packet.refill(buffer, start, end, headers, to_server)
        if is_icmp_error(headers):
            packet.related = self._related(flow.key[0], buffer, headers)
        flow.packet = packet
        return packet

    def _release(self, flow: Flow, packet: Packet) -> None:
        flow.packet = None
        packet.retire()

    def _related(self, endpoint_id: int, buffer: Buffer, headers: Headers) -> Flow | None:
        """The flow that an ICMP error quotes, after its eight bytes (RFC 792, RFC 4443)."""
        try:
            quoted = parse_quoted(buffer, headers.transport + 8, headers.end)
        except MalformedPacket:
            return None
        entry = self._get(_key(endpoint_id, quoted))
        return entry[0] if entry is not None else None

    def _refuse(
        self, flow: Flow, buffer: Buffer, start: int, headers: Headers, to_server: bool
    ) -> int:
        """A packet of a decided flow: all of the verdict for the first one, then its action."""
        engine = self._engine
        if not flow.reported:
            by = flow.decided_by
            return self._dropped(flow, flow.verdict, by, buffer, start, headers, to_server)
        if flow.verdict.action is Action.REJECT:
            engine.answers.reject(flow, buffer, start, headers, to_server, engine.now)
        return engine.drop(f"plugin_{flow.verdict.name}")

    def _dropped(
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


def _discard(holds: Sequence[tuple[Seat, Hold]]) -> None:
    for _, hold in holds:
        hold.discard()


def _key(endpoint_id: int, headers: Headers) -> FlowKey:
    return (
        endpoint_id,
        headers.protocol,
        headers.source,
        headers.destination,
        headers.source_port,
        headers.destination_port,
    )


def _is_damaged(buffer: Buffer, headers: Headers) -> bool:
    """A wrong checksum: the receiver ignores the segment, and so must who follows it."""
    if headers.is_fragment:
        return False
    segment = bytes(buffer[headers.transport : headers.end])
    return transport_checksum(headers.source, headers.destination, TCP, segment) != 0


def _is_multicast(address: bytes) -> bool:
    if len(address) == 4:
        return address[0] >> 4 == 0xE or address == b"\xff\xff\xff\xff"
    return address[0] == 0xFF
