"""How flows begin, are decided and end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from appliance_sdk.engine.decision import BLOCKED
from appliance_sdk.flow.direction import OPENED, Beginning, beginning
from appliance_sdk.flow.key import FlowKey, pack_ends, swap_ends
from appliance_sdk.flow.tcp import TcpTracker
from appliance_sdk.plugin.events import FlowEnded
from appliance_sdk.plugin.flow import Flow
from appliance_sdk.plugin.handler import FlowHandler
from appliance_sdk.plugin.hold import Hold
from appliance_sdk.plugin.inspection import UNINSPECTED
from appliance_sdk.plugin.verdict import Action, Verdict
from appliance_sdk.wire.geneve import format_endpoint
from appliance_sdk.wire.packet import ACK, SYN, Headers

if TYPE_CHECKING:
    from appliance_sdk.engine.engine import Engine
    from appliance_sdk.flow.lane import Lane
    from appliance_sdk.plugin.manager import Seat, Zone

_TCP = 6
_ENDPOINTS_LOGGED = 1024


class Lifecycle:
    """The life of the flows of one engine, from admission to the one `flow_closed`."""

    def __init__(self, engine: Engine, first_id: int) -> None:
        self._engine = engine
        self._settings = settings = engine.settings
        # Once, not with each flow: there are many.
        self._tcp_idle_s = settings.tcp_idle_s + settings.idle_margin_s
        self._half_open_s = settings.half_open_s
        self._other_idle_s = settings.other_idle_s + settings.idle_margin_s
        self._guard = engine.guard
        self._table = engine.table
        self._next_id = first_id
        self._agenda = engine.agenda
        self._endpoints_logged: set[int] = set()
        self.opened = 0
        self.closed = 0

    def new_flow(
        self, endpoint_id: int, ends: bytes, headers: Headers, zone: Zone
    ) -> tuple[Flow, bool]:
        """A flow for its first packet, not in the table yet, and the packet's direction."""
        start = beginning(headers)
        tcp = TcpTracker(start.midstream) if headers.protocol == _TCP else None
        lane = self._table.lane(endpoint_id, headers.protocol)
        if not start.to_server:
            ends = swap_ends(ends)
        flow = self.begin(lane, ends, zone, tcp, start)
        if tcp is not None and headers.flags & (SYN | ACK) == SYN:
            # Also if the SYN is refused now: sent again, it must find this flow and its verdict.
            tcp.opening_seq = headers.seq
        if tcp is not None and tcp.established:
            flow.timeout_s = self._idle_s(tcp)
        return flow, start.to_server

    def begin(
        self,
        lane: Lane[Flow],
        ends: bytes,
        zone: Zone,
        tcp: TcpTracker | None,
        start: Beginning,
    ) -> Flow:
        """A flow from now on, not in the table yet; nothing is known of its encapsulation."""
        number = self._next_id
        self._next_id = number + 1
        engine = self._engine
        timeout_s = self._other_idle_s if tcp is None else self._half_open_s
        return Flow(number, lane, ends, engine.now, timeout_s, zone, tcp, start)

    def revived(self, key: FlowKey, zone: Zone) -> Flow:
        """A flow from a saved state; TCP numbers are learnt again from its next packets."""
        tcp = TcpTracker(midstream=True) if key[1] == _TCP else None
        lane, ends = self._table.lane(key[0], key[1]), pack_ends(*key[2:])
        flow = self.begin(lane, ends, zone, tcp, OPENED)
        flow.timeout_s = self._idle_s(tcp)
        return flow

    def ask(self, flow: Flow, first: int = 0) -> tuple[Verdict | Hold | None, Seat | None]:
        """Ask the plugins of the flow's zone in turn: the first terminal verdict, or the first one
        to be waited for, if any."""
        for seat in flow._zone.seats[first:]:
            flow._asked = seat.index + 1
            if seat.flow_opened is None or self._taken_out(seat):
                continue
            if flow.midstream and seat.midstream.action is not Action.CONTINUE:
                return seat.midstream.because("met in its middle", rule="midstream"), seat
            outcome = self._guard.call(
                seat, "flow_opened", self._engine.now, seat.flow_opened, flow
            )
            if isinstance(outcome, Hold):
                if flow.mode != BLOCKED:
                    return outcome, seat
                outcome.discard()
                outcome = None
            if isinstance(outcome, FlowHandler):
                outcome = self._engine.attachment.offered(flow, seat, outcome, "flow_opened")
            if outcome is not None and outcome.terminal:
                return outcome, seat
            if outcome is not None and (outcome.reason or outcome.rule):
                flow.verdict, flow.decided_by = outcome, seat.name
            if flow.mode == BLOCKED:  # the plugin called flow.set()
                return None, seat
        return None, None

    def admit(self, flow: Flow, half_open: bool) -> None:
        """Put a flow into the table: from here on it will be closed exactly once."""
        self._table.add(flow, half_open)
        self._admitted(flow)

    def admit_usual(self, flow: Flow, shard: dict[bytes, Flow], answer: bytes) -> None:
        """The same for a half-open one, by who knows where in the table; see `FlowTable.put`."""
        self._table.put(flow, True, shard, answer)
        self._admitted(flow)

    def _admitted(self, flow: Flow) -> None:
        self.opened += 1
        for handler in flow._inspection.handlers.values():
            self._engine.attachment.start_timer(handler)

    def is_replaced(self, flow: Flow, headers: Headers, cookie: int) -> bool:
        """Whether a packet with the flow's key begins a new connection on the same ports."""
        tcp = flow.tcp
        if tcp is None or not tcp.starts_new_connection(headers.flags, headers.seq):
            return False
        # A guess from ports must not outlive the proof: who sends a stray packet first would
        # otherwise choose which end counts as the client, and so which rules apply.
        return (
            tcp.closed or flow.mode == BLOCKED or cookie != flow.cookie or not flow.direction_sure
        )

    def decide(self, flow: Flow, verdict: Verdict, seat: Seat | None) -> None:
        """Block or reject a flow from now on; no handler sees more of it."""
        if verdict.action is Action.DROP:
            verdict = Verdict(Action.BLOCK, verdict.reason, verdict.rule, verdict.payload)
        if not verdict.terminal or flow.mode == BLOCKED:
            return
        flow.verdict = verdict
        flow.decided_by = seat.name if seat is not None else ""
        flow.mode = BLOCKED
        inspection = flow._inspection
        inspection.unhook_all()
        if inspection.held is not None:
            self._engine.holding.decided(flow)
        self._engine.streams.close(flow)
        for handler in inspection.handlers.values():
            self._agenda.forget(handler)

    def decide_unprompted(self, flow: Flow, verdict: Verdict, seat: Seat | None) -> None:
        """The same without a packet at hand: a REJECT resets both ends of a TCP flow now."""
        if flow.end_reason or flow.mode == BLOCKED:
            return
        self.decide(flow, verdict, seat)
        if flow.packet is None and flow.verdict.action is Action.REJECT:
            self._engine.answers.reset_both(flow, self._engine.now)

    def obey(self, flow: Flow, seat: Seat, outcome: Any) -> None:
        """Do what a hook said that was called without a packet."""
        if outcome is None or flow.end_reason:
            return
        if outcome.action is Action.DONE:
            self._engine.attachment.detach(flow, seat)
        elif outcome.terminal:
            self.decide_unprompted(flow, outcome, seat)

    def restored(self, seat: Seat, handler: FlowHandler[Any]) -> None:
        """Tell a handler that its fields were loaded."""
        outcome = self._guard.call(seat, "restored", self._engine.now, handler.restored)
        self.obey(handler.flow, seat, outcome)

    def tcp_changed(self, flow: Flow) -> None:
        """The TCP state moved: another idle time, or the beginning of the end."""
        tcp = flow.tcp
        if tcp is None:
            return
        if tcp.closed:
            self._table.closing(flow, self._settings.closed_s)
        elif flow.half_open and tcp.established:
            self._table.established(flow, self._idle_s(tcp))
            if flow._inspection.streams is None:
                tcp.settled()

    def answered(self, flow: Flow) -> None:
        """Both ends of a flow that is not TCP have sent something."""
        self._table.established(flow, flow.timeout_s)

    def never_was(self, flow: Flow) -> None:
        """A flow was dropped before it was admitted: nobody keeps anything of it.

        Its handlers have no timers, see `Host.wake`.
        """
        flow.end_reason = "dropped"
        self._engine.streams.close(flow)
        flow._inspection = UNINSPECTED  # as in `close`

    def make_room(self) -> bool:
        """Give up the oldest half-open flow for a new one, if there is any."""
        oldest = self._table.make_room()
        if oldest is None:
            return False
        self.close(oldest, "evicted")
        return True

    def close(self, flow: Flow, reason: str) -> None:
        """Take a flow out of the table and tell everyone who was asked about it."""
        tcp_reason = flow.tcp.end_reason if flow.tcp is not None else ""
        flow.end_reason = tcp_reason or reason
        if flow._inspection.held is not None:
            self._engine.holding.abandon(flow)
        self._table.remove(flow)
        self.closed += 1
        handlers, now = flow._inspection.handlers, self._engine.now
        for handler in handlers.values():
            self._agenda.forget(handler)
        for seat in flow._zone.seats[: flow._asked]:
            if seat.flow_closed is not None and not self._taken_out(seat):
                self._guard.call(
                    seat, "flow_closed", now, seat.flow_closed, flow, handlers.get(seat)
                )
        self._engine.streams.close(flow)
        if flow._inspection.record is not None:
            self._engine.recording.close(flow)
        flow._inspection.unhook_all()
        self._engine.host.report(_ended(flow, now), flow, "")
        # Its handlers know the flow: such circles would wait for the collector.
        flow._inspection = UNINSPECTED

    def close_all(self, reason: str) -> None:
        """End every flow, then stop every plugin."""
        for flow in list(self._table):
            self.close(flow, reason)
        for seat in self._engine.pipeline.seats:
            if seat.stop is not None:
                self._guard.call(seat, "stop", self._engine.now, seat.stop)

    def unknown_endpoint(self, endpoint_id: int) -> None:
        """Say once that an endpoint is in no zone, when there are zones."""
        logged = self._endpoints_logged
        if not self._engine.pipeline.endpoints or endpoint_id in logged:
            return
        if len(logged) < _ENDPOINTS_LOGGED:
            logged.add(endpoint_id)
            policy = self._settings.unknown_endpoint
            name = format_endpoint(endpoint_id)
            self._engine.host.log("engine.unknown_endpoint", endpoint=name, policy=policy)

    def _taken_out(self, seat: Seat) -> bool:
        return seat.tripped and seat.on_error.action is Action.CONTINUE

    def _idle_s(self, tcp: TcpTracker | None) -> float:
        return self._tcp_idle_s if tcp is not None else self._other_idle_s


def _ended(flow: Flow, now: float) -> FlowEnded:
    return FlowEnded(
        opened_at=flow.opened_at,
        last_seen=flow.last_seen,
        ended_at=now,
        packets_to_server=flow.packets_to_server,
        bytes_to_server=flow.bytes_to_server,
        packets_to_client=flow.packets_to_client,
        bytes_to_client=flow.bytes_to_client,
        verdict="forward" if flow.mode != BLOCKED else flow.verdict.name,
        reason=flow.verdict.reason,
        rule=flow.verdict.rule,
        decided_by=flow.decided_by,
        end_reason=flow.end_reason,
        midstream=flow.midstream,
        direction_sure=flow.direction_sure,
        tcp_state=flow.tcp.state.name.lower() if flow.tcp is not None else "",
    )
