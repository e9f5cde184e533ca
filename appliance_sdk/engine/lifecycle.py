"""How flows begin, are decided, are judged again and end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from appliance_sdk.engine.held import Held
from appliance_sdk.flow.direction import OPENED, Beginning, beginning
from appliance_sdk.flow.key import FlowKey, pack_ends, swap_ends
from appliance_sdk.flow.tcp import TcpTracker
from appliance_sdk.flow.timers import Timers
from appliance_sdk.plugin.base import overrides
from appliance_sdk.plugin.events import FlowEnded
from appliance_sdk.plugin.flow import Flow
from appliance_sdk.plugin.handler import FlowHandler
from appliance_sdk.plugin.hold import Hold
from appliance_sdk.plugin.inspection import UNINSPECTED, Hooks
from appliance_sdk.plugin.verdict import Action, Verdict
from appliance_sdk.wire.geneve import format_endpoint
from appliance_sdk.wire.packet import ACK, SYN, Headers

if TYPE_CHECKING:
    from appliance_sdk.engine.engine import Engine
    from appliance_sdk.flow.lane import Lane
    from appliance_sdk.plugin.manager import Seat, Zone

BYPASSED, HANDLED, BLOCKED, HELD = 0, 1, 2, 3
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
        self._timers: Timers[FlowHandler[Any] | Seat | Held] = Timers()
        self._rechecks: deque[tuple[Seat, list[Flow]]] = deque()
        self._wants: dict[type, tuple[bool, bool]] = {}
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

    def restored(self, seat: Seat, handler: FlowHandler[Any]) -> None:
        """Tell a handler that its fields were loaded."""
        self._obey(handler.flow, seat, self._call(seat, "restored", handler.restored))

    def ask(self, flow: Flow, first: int = 0) -> tuple[Verdict | Hold | None, Seat | None]:
        """Ask the plugins of the flow's zone in turn: the first terminal verdict, or the first one
        to be waited for, if any."""
        for seat in flow._zone.seats[first:]:
            flow._asked = seat.index + 1
            if seat.flow_opened is None or self._taken_out(seat):
                continue
            if flow.midstream and seat.midstream.action is not Action.CONTINUE:
                return seat.midstream.because("met in its middle", rule="midstream"), seat
            outcome = self._call(seat, "flow_opened", seat.flow_opened, flow)
            if isinstance(outcome, Hold):
                return outcome, seat
            if isinstance(outcome, FlowHandler):
                outcome = self._attach(flow, seat, outcome, "flow_opened")
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
            if handler._wake_at > 0:
                self.wake(handler, handler._wake_at)

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
            self._timers.cancel(handler)

    def decide_unprompted(self, flow: Flow, verdict: Verdict, seat: Seat | None) -> None:
        """The same without a packet at hand: a REJECT resets both ends of a TCP flow now."""
        if flow.end_reason or flow.mode == BLOCKED:
            return
        self.decide(flow, verdict, seat)
        if flow.packet is None and flow.verdict.action is Action.REJECT:
            self._engine.answers.reset_both(flow, self._engine.now)

    def detach(self, flow: Flow, seat: Seat) -> None:
        """The plugin needs no more of the flow; its timers and `flow_closed` go on."""
        flow._inspection.unhook(seat)
        self._settle(flow)

    def _settle(self, flow: Flow) -> None:
        """Let go what nobody wants any more."""
        if not flow._inspection.on_data:
            self._engine.streams.close(flow)
        if flow.mode == HANDLED:
            self.resume(flow)

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
        handlers = flow._inspection.handlers
        for handler in handlers.values():
            self._timers.cancel(handler)
        for seat in flow._zone.seats[: flow._asked]:
            if seat.flow_closed is not None and not self._taken_out(seat):
                self._call(seat, "flow_closed", seat.flow_closed, flow, handlers.get(seat))
        self._engine.streams.close(flow)
        if flow._inspection.record is not None:
            self._engine.recording.close(flow)
        flow._inspection.unhook_all()
        self._engine.host.report(_ended(flow, self._engine.now), flow, "")
        # Its handlers know the flow: such circles would wait for the collector.
        flow._inspection = UNINSPECTED

    def close_all(self, reason: str) -> None:
        """End every flow, then stop every plugin."""
        for flow in list(self._table):
            self.close(flow, reason)
        for seat in self._engine.pipeline.seats:
            if seat.stop is not None:
                self._call(seat, "stop", seat.stop)

    def wake(self, target: FlowHandler[Any] | Seat, after_s: float) -> float:
        """Set the one timer of a handler or seat."""
        deadline = self._engine.now + max(0.0, after_s)
        self._timers.set(target, deadline)
        return deadline

    def wake_at(self, held: Held, deadline: float) -> None:
        """Set when a flow's waiting is over."""
        self._timers.set(held, deadline)

    def forget(self, held: Held) -> None:
        """It waits no more."""
        self._timers.cancel(held)

    def attach_opening(self, flow: Flow, seat: Seat, handler: FlowHandler[Any]) -> Verdict | None:
        """The handler that a new flow has waited for."""
        verdict = self._attach(flow, seat, handler, "flow_opened")
        if verdict is None and handler._wake_at > 0:
            self.wake(handler, handler._wake_at)
        return verdict

    def resume(self, flow: Flow) -> None:
        """A flow goes on: who wants to see its packets?"""
        seen = flow._inspection
        wanted = seen.on_packet or seen.on_data or seen.record is not None
        flow.mode = HANDLED if wanted else BYPASSED

    def recorded(self, flow: Flow) -> None:
        """A flow's packets are to be on record, or no more."""
        if flow.mode in (BYPASSED, HANDLED):
            self.resume(flow)

    def recheck(self, seat: Seat) -> None:
        """Have a plugin judge every live flow of its zone again, beginning at the next advance."""
        flows = [f for f in self._table if f._zone.name == seat.zone and f._asked > seat.index]
        self._rechecks = deque(entry for entry in self._rechecks if entry[0] is not seat)
        if seat.recheck is not None and flows:
            self._rechecks.append((seat, flows))

    def next_deadline(self) -> float:
        """When `advance` has something to do."""
        if self._rechecks:
            return self._engine.now
        return min(self._timers.next_deadline(), self._table.expiry.next_deadline())

    def advance(self, now: float) -> None:
        """A bounded amount of what is due: expiry, timers, rechecks."""
        for flow in self._table.expiry.due(now, self._settings.expiry_batch):
            self.close(flow, "blocked" if flow.mode == BLOCKED else "idle")
        for _ in range(self._settings.expiry_batch):
            target = self._timers.due(now)
            if target is None:
                break
            self._woken(target)
        if self._rechecks:
            self._recheck_some()

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

    def attach(self, flow: Flow, seat: Seat, handler: FlowHandler[Any]) -> None:
        """Let a handler see the flow from now on, in the place of its plugin's former one."""
        inspection = flow.inspect()
        inspection.unhook(seat)
        former = inspection.handlers.get(seat)
        if former is not None and former is not handler:
            self._timers.cancel(former)
        inspection.handlers[seat] = handler
        handler._flow = flow
        handler._seat = seat
        wants = self._wants.get(type(handler))
        if wants is None:
            kind = type(handler)
            wants = overrides(kind, FlowHandler, "packet"), overrides(kind, FlowHandler, "data")
            self._wants[kind] = wants
        if wants[0]:
            inspection.on_packet = _in_order((*inspection.on_packet, (seat, handler.packet)))
        if wants[1]:
            inspection.on_data = _in_order((*inspection.on_data, (seat, handler.data)))
            new = not flow.packets_to_server and not flow.packets_to_client
            self._engine.streams.attached(flow, new)
        if any(wants) and flow.mode == BYPASSED:
            flow.mode = HANDLED
        self._settle(flow)

    def _attach(
        self, flow: Flow, seat: Seat, handler: FlowHandler[Any], hook: str
    ) -> Verdict | None:
        if handler._flow is not None and handler._flow is not flow:
            problem = "the same handler object for a second flow"
            return self._guard.nonsense(seat, hook, problem, self._engine.now)
        if type(handler).__struct_config__.frozen:
            return self._guard.nonsense(seat, hook, "a frozen handler", self._engine.now)
        self.attach(flow, seat, handler)
        return None

    def _woken(self, target: FlowHandler[Any] | Seat | Held) -> None:
        if isinstance(target, Held):
            self._engine.holding.expired(target)
            return
        if not isinstance(target, FlowHandler):
            if target.woken is not None:
                self._call(target, "woken", target.woken)
            return
        flow, seat = target.flow, target._seat
        self._obey(flow, seat, self._call(seat, "woken", target.woken))

    def _recheck_some(self) -> None:
        seat, flows = self._rechecks[0]
        for _ in range(min(len(flows), self._settings.recheck_batch)):
            flow = flows.pop()
            blocked = flow.mode == BLOCKED
            if (
                flow.end_reason
                or seat.recheck is None
                or (blocked and flow.decided_by != seat.name)
            ):
                continue
            handler = flow._inspection.handlers.get(seat)
            outcome = self._call(seat, "recheck", seat.recheck, flow, handler)
            if blocked:
                if outcome is not None and not (isinstance(outcome, Verdict) and outcome.terminal):
                    self.close(flow, "rejudged")  # its next packet opens it anew
                continue
            if isinstance(outcome, FlowHandler):
                outcome = self._attach(flow, seat, outcome, "recheck")
                attached = flow._inspection.handlers.get(seat)
                if outcome is None and attached is not None and attached._wake_at > 0:
                    self.wake(attached, attached._wake_at)
            self._obey(flow, seat, outcome)
        # A plugin may have asked for another round meanwhile, which stands in the place of this.
        if not flows and self._rechecks and self._rechecks[0][1] is flows:
            self._rechecks.popleft()

    def _obey(self, flow: Flow, seat: Seat, outcome: Any) -> None:
        """Do what a hook said that was called without a packet."""
        if outcome is None or flow.end_reason:
            return
        if outcome.action is Action.DONE:
            self.detach(flow, seat)
        elif outcome.terminal:
            self.decide_unprompted(flow, outcome, seat)

    def _call(self, seat: Seat, hook: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a hook: its outcome, or the plugin's policy when it fails."""
        guard = self._guard
        caller, guard.calling = guard.calling, seat
        try:
            outcome = function(*arguments)
        except Exception as error:  # a vendor's code may raise anything; the guard counts it
            return guard.failed(seat, hook, error, self._engine.now)
        finally:
            guard.calling = caller
        if outcome is None or isinstance(outcome, Verdict) or hook in ("flow_closed", "stop"):
            return outcome
        if isinstance(outcome, FlowHandler) and hook in ("flow_opened", "recheck"):
            return outcome
        if isinstance(outcome, Hold):
            if hook == "flow_opened":
                return outcome
            outcome.discard()
        return self._guard.nonsense(seat, hook, outcome, self._engine.now)

    def _taken_out(self, seat: Seat) -> bool:
        return seat.tripped and seat.on_error.action is Action.CONTINUE

    def _idle_s(self, tcp: TcpTracker | None) -> float:
        return self._tcp_idle_s if tcp is not None else self._other_idle_s


def _in_order(hooks: Hooks) -> Hooks:
    return tuple(sorted(hooks, key=lambda entry: entry[0].index))


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
