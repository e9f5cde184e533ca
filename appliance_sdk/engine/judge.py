"""A packet's way through the engine: its flow, new, known or waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance_sdk.engine.asking import Asking, ends_of
from appliance_sdk.engine.decision import BLOCKED, FORWARD, REPLACED, Place
from appliance_sdk.engine.fragment_judge import FragmentJudge
from appliance_sdk.engine.held import Waiting
from appliance_sdk.engine.opening import Opening
from appliance_sdk.plugin.flow import Flow
from appliance_sdk.plugin.hold import Hold
from appliance_sdk.plugin.manager import Seat
from appliance_sdk.plugin.verdict import Action, Verdict
from appliance_sdk.wire.geneve import parse_geneve
from appliance_sdk.wire.packet import Headers, parse_packet

if TYPE_CHECKING:
    from appliance_sdk.engine.engine import Engine
    from appliance_sdk.wire.buffer import Buffer


class Judge:
    """Decides about the packets of one engine, and counts and reports what it drops."""

    def __init__(self, engine: Engine, *, debug: bool) -> None:
        self._engine = engine
        self._table = engine.table
        self.asking = Asking(engine, debug=debug)
        self.opening = Opening(engine, self, debug=debug)
        self._fragments = FragmentJudge(engine, self, self.asking)

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
            return self._fragments.fragment(headers, geneve.endpoint_id, geneve.cookie, place, end)
        found = self.find(geneve.endpoint_id, headers, geneve.cookie, place, end)
        if isinstance(found, int):
            return found
        flow, to_server = found
        return self._count_and_judge(flow, to_server, headers, place, end)

    def find(
        self, endpoint_id: int, headers: Headers, cookie: int, place: Place, end: int
    ) -> tuple[Flow, bool] | int:
        """The flow of a packet, opened if it has none; else the decision about the packet."""
        engine = self._engine
        ends = ends_of(headers)
        known = self._table.find(endpoint_id, headers.protocol, ends)
        if known is not None:
            if not engine.lifecycle.is_replaced(known, headers, cookie):
                return known, known.ends == ends
            engine.lifecycle.close(known, "replaced")
        _peer, _local, buffer, _datagram, start = place
        zone = engine.pipeline.endpoints.get(endpoint_id)
        if zone is None:
            engine.lifecycle.unknown_endpoint(endpoint_id)
            if engine.settings.unknown_endpoint != "continue":
                return engine.drop("unknown_endpoint")
            zone = engine.pipeline.default
        if headers.source == headers.destination and (
            headers.source_port == headers.destination_port
        ):
            return engine.drop("land")
        if _is_multicast(headers.destination):
            return engine.drop("multicast")
        if engine.table.full and not engine.lifecycle.make_room():
            return (
                FORWARD if engine.settings.table_full == "continue" else engine.drop("table_full")
            )
        flow, to_server = engine.lifecycle.new_flow(endpoint_id, ends, headers, zone)
        engine.encapsulation.remember(flow, place)
        if headers.version == 4:
            self.opening.learn(flow)
        packet = self.asking.view(flow, buffer, start, end, headers, to_server)
        verdict, seat = engine.lifecycle.ask(flow)
        self.asking.release(packet)
        return self._begun(flow, to_server, verdict, seat, headers, place, end)

    def asked(
        self,
        flow: Flow,
        to_server: bool,
        verdict: Verdict | Hold | None,
        seat: Seat | None,
        headers: Headers,
        place: Place,
        end: int,
    ) -> int:
        """The plugins were asked about a new flow: do what they said, and judge the packet."""
        found = self._begun(flow, to_server, verdict, seat, headers, place, end)
        if isinstance(found, int):
            return found
        return self._count_and_judge(flow, to_server, headers, place, end)

    def _begun(
        self,
        flow: Flow,
        to_server: bool,
        verdict: Verdict | Hold | None,
        seat: Seat | None,
        headers: Headers,
        place: Place,
        end: int,
    ) -> tuple[Flow, bool] | int:
        """Do what the plugins said about a new flow: the flow, unless its packet goes no further
        now."""
        engine, buffer, start = self._engine, place[2], place[4]
        while isinstance(verdict, Hold) and seat is not None:
            holds = [(seat, verdict)]
            refused = engine.holding.refused(holds, end - place[3])
            if refused is None:
                return self._hold_new(flow, holds, place, headers, to_server, end)
            verdict = refused[0]
            if not verdict.terminal:
                packet = self.asking.view(flow, buffer, start, end, headers, to_server)
                verdict, seat = engine.lifecycle.ask(flow, seat.index + 1)
                self.asking.release(packet)
        assert not isinstance(verdict, Hold)
        if verdict is not None and verdict.action is Action.DROP:
            name = seat.name if seat else ""
            dropped = self.asking.dropped(flow, verdict, name, buffer, start, headers, to_server)
            engine.lifecycle.never_was(flow)
            return dropped
        engine.lifecycle.admit(flow, flow.tcp is None or flow.tcp.half_open)
        if verdict is not None:
            engine.lifecycle.decide(flow, verdict, seat)
        return flow, to_server

    def _hold_new(
        self,
        flow: Flow,
        holds: list[tuple[Seat, Hold]],
        place: Place,
        headers: Headers,
        to_server: bool,
        end: int,
    ) -> tuple[Flow, bool] | int:
        """A new flow waits, and its first packet with it; a fragment does not."""
        engine = self._engine
        peer, local, buffer, datagram, start = place
        engine.lifecycle.admit(flow, flow.tcp is None or flow.tcp.half_open)
        first = Waiting(
            bytes(peer), local, bytes(buffer[datagram:end]), start - datagram, to_server
        )
        engine.holding.begin(flow, holds, first, opening=True, witness=headers.is_fragment)
        if headers.is_fragment:
            return flow, to_server
        self.count(flow, to_server, headers.end - start)
        self.record(flow, to_server, headers, place)
        return REPLACED

    def ask_again(
        self, flow: Flow, waiting: Waiting, first: int
    ) -> tuple[Verdict | Hold | None, Seat | None]:
        """Ask the plugins from number `first` on about a new flow, by a packet that has waited."""
        datagram, inner = waiting.datagram, waiting.inner
        end = len(datagram)
        headers = parse_packet(datagram, inner, end)
        packet = self.asking.view(flow, datagram, inner, end, headers, waiting.to_server)
        answer = self._engine.lifecycle.ask(flow, first)
        self.asking.release(packet)
        return answer

    def release(self, flow: Flow, waiting: Waiting) -> None:
        """Judge a packet that has waited, and put what is to be sent into the outbox."""
        datagram, inner, to_server = waiting.datagram, waiting.inner, waiting.to_server
        headers = parse_packet(datagram, inner, len(datagram))
        place = waiting.peer, waiting.local, datagram, 0, inner
        if waiting.asked and flow.mode != BLOCKED:
            decision = self.asking.pass_on(flow, to_server, headers, waiting.edited, place)
        else:
            decision = self.asking.packet(
                flow, to_server, datagram, inner, len(datagram), headers, place
            )
        if decision == FORWARD:
            self._engine.outbox.append((waiting.peer, waiting.local, datagram))

    def drop_waiting(self, flow: Flow, waiting: Waiting, verdict: Verdict, plugin: str) -> None:
        """A verdict drops a packet that has waited."""
        headers = parse_packet(waiting.datagram, waiting.inner, len(waiting.datagram))
        self.asking.dropped(
            flow, verdict, plugin, waiting.datagram, waiting.inner, headers, waiting.to_server
        )

    def _count_and_judge(
        self,
        flow: Flow,
        to_server: bool,
        headers: Headers,
        place: Place,
        end: int,
    ) -> int:
        _peer, _local, buffer, _datagram, start = place
        self.count(flow, to_server, headers.end - start)
        self.record(flow, to_server, headers, place)
        self._engine.encapsulation.remember(flow, place)
        return self.asking.packet(flow, to_server, buffer, start, end, headers, place)

    def record(self, flow: Flow, to_server: bool, headers: Headers, place: Place) -> None:
        """Copy a packet of a flow that is recorded."""
        if flow._inspection.record is not None:
            peer, local, buffer, datagram, _inner = place
            data = bytes(buffer[datagram : headers.end])
            self._engine.recording.add(flow, to_server, peer, local, data)

    def count(self, flow: Flow, to_server: bool, length: int) -> None:
        """Count a packet of so many bytes."""
        engine = self._engine
        if to_server:
            flow.packets_to_server += 1
            flow.bytes_to_server += length
        else:
            flow.packets_to_client += 1
            flow.bytes_to_client += length
        flow.last_seen = engine.now
        if flow.half_open and flow.tcp is None and not to_server:
            engine.lifecycle.answered(flow)


def _is_multicast(address: bytes) -> bool:
    if len(address) == 4:
        return address[0] >> 4 == 0xE or address == b"\xff\xff\xff\xff"
    return address[0] == 0xFF
