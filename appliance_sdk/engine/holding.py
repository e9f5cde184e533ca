"""Flows that wait for a verdict: their packets queue, each in its own encapsulation."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from appliance_sdk.engine.decision import BLOCKED, HELD
from appliance_sdk.engine.held import Held, Waiting
from appliance_sdk.errors import PluginError
from appliance_sdk.plugin.handler import FlowHandler
from appliance_sdk.plugin.hold import Hold
from appliance_sdk.plugin.verdict import Action, Verdict

if TYPE_CHECKING:
    from appliance_sdk.engine.engine import Engine
    from appliance_sdk.plugin.flow import Flow
    from appliance_sdk.plugin.manager import Seat


class HoldLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much may wait for verdicts; what is beyond it gets the hold's `otherwise`, or is
    dropped."""

    flows: int = 65_536
    """Flows that wait at a time."""
    packets: int = 64
    """Packets of one flow; what comes then is dropped, and the ends send it again."""
    total_bytes: int = 64 * 1024 * 1024
    """Packets of all flows together."""
    longest_s: float = 10
    """No answer is waited for any longer: TCP has lost its patience by then."""


class Tasks(Protocol):
    """Who runs awaitables: a data plane's event loop."""

    def run(
        self, answer: Awaitable[Any], done: Callable[[Any, Exception | None], None]
    ) -> Callable[[], None]:
        """Have it awaited and `done` called with its result; returns what cancels it."""


class Holding:
    """All the flows of one engine that wait."""

    def __init__(self, engine: Engine, limits: HoldLimits) -> None:
        self._engine = engine
        self._limits = limits
        self.flows = 0
        """Flows that wait now."""
        self.packets = 0
        """Packets that wait now."""
        self._bytes = 0

    def refused(self, holds: list[tuple[Seat, Hold]], length: int) -> tuple[Verdict, Seat] | None:
        """The verdict that counts now, as there is no room for a flow to wait with a datagram of so
        many bytes; None if there is."""
        engine, limits, tasks = self._engine, self._limits, self._engine.tasks
        full = self.flows >= limits.flows or self._bytes + length > limits.total_bytes
        if tasks is not None and not full:
            return None
        for _, hold in holds:
            hold.discard()
        seat, hold = holds[0]
        if tasks is None:
            problem = PluginError(seat.name, "hold() needs a data plane with an event loop")
            verdict = engine.guard.failed(seat, "hold", problem, engine.now)
        else:
            engine.metrics[f"{seat.name}.hold_refused"] += 1
            verdict = hold.otherwise
        return verdict or Verdict.CONTINUE, seat

    def begin(
        self,
        flow: Flow,
        holds: list[tuple[Seat, Hold]],
        first: Waiting,
        *,
        opening: bool = False,
        witness: bool = False,
    ) -> None:
        """Have a flow wait, `first` being the packet that was asked about; see `refused`.

        `opening`: it is new. `witness`: the packet is not to be sent.
        """
        held = Held(flow, opening)
        if witness:
            held.witness = first
        else:
            self._push(held, first)
        self._wait(held, holds)

    def _wait(self, held: Held, holds: list[tuple[Seat, Hold]]) -> None:
        engine, flow, tasks = self._engine, held.flow, self._engine.tasks
        assert tasks is not None
        flow.inspect().held, flow.mode = held, HELD
        self.flows += 1
        if held.witness is not None:
            self._bytes += len(held.witness.datagram)
        for seat, hold in holds:
            held.holds[seat] = hold
            held.deadlines[seat] = engine.now + min(hold.timeout_s, self._limits.longest_s)
            held.cancel[seat] = tasks.run(hold.answer, self._answer_for(held, seat))
        engine.agenda.wake_at(held, min(held.deadlines.values()))

    def queue(
        self, flow: Flow, peer: bytes, local: bytes, datagram: bytes, inner: int, to_server: bool
    ) -> str:
        """One more packet of a flow that waits: a reason to drop it, "" if it waits, too."""
        held = flow._inspection.held
        limits = self._limits
        full = len(held.queue) >= limits.packets
        if full or self._bytes + len(datagram) > limits.total_bytes:
            return "hold_full"
        self._push(held, Waiting(bytes(peer), local, datagram, inner, to_server))
        return ""

    def expired(self, held: Held) -> None:
        """The time of one of a flow's answers is over."""
        now = self._engine.now
        for seat, deadline in list(held.deadlines.items()):
            if held.flow._inspection.held is not held:  # what one has answered was enough
                return
            if deadline <= now and seat in held.holds:
                self._engine.metrics[f"{seat.name}.hold_timeout"] += 1
                held.cancel.pop(seat)()
                self._answered(held, seat, held.holds[seat].otherwise, None)
        if held.holds and held.flow._inspection.held is held:
            self._engine.agenda.wake_at(held, min(held.deadlines[seat] for seat in held.holds))

    def decided(self, flow: Flow) -> None:
        """The flow was decided meanwhile, by a timer or a reload: what waits is refused."""
        held = self._end(flow)
        self._release(flow, held.queue)

    def abandon(self, flow: Flow) -> None:
        """The flow ended: what waits goes nowhere."""
        held = self._end(flow)
        while held.queue:
            self._pop(held.queue)
            self._engine.drop("hold_ended")

    def _answer_for(self, held: Held, seat: Seat) -> Callable[[Any, Exception | None], None]:
        def done(result: Any, error: Exception | None) -> None:
            held.cancel.pop(seat, None)
            self._answered(held, seat, result, error)

        return done

    def _answered(self, held: Held, seat: Seat, outcome: Any, error: Exception | None) -> None:
        engine, flow = self._engine, held.flow
        if flow._inspection.held is not held or held.holds.pop(seat, None) is None:
            return
        if error is not None:
            outcome = engine.guard.failed(seat, "hold", error, engine.now)
        elif held.opening and isinstance(outcome, FlowHandler):
            outcome = engine.attachment.offered_late(flow, seat, outcome, "flow_opened")
        elif outcome is not None and not isinstance(outcome, Verdict):
            outcome = engine.guard.nonsense(seat, "hold", outcome, engine.now)
        if outcome is not None and outcome.terminal:
            self._conclude(held, outcome, seat)
            return
        if outcome is not None and outcome.action is Action.DONE and not held.opening:
            engine.attachment.detach(flow, seat)
        if not held.holds:
            self._conclude(held, None, seat)

    def _conclude(self, held: Held, verdict: Verdict | None, seat: Seat | None) -> None:
        """Nothing more is waited for, or what came is enough."""
        engine, flow = self._engine, held.flow
        queue = self._end(flow).queue
        if verdict is None and held.opening:
            verdict, seat = self._ask_the_others(held, seat)
            if flow._inspection.held is held:  # the next one waits, too
                return
        if verdict is not None and verdict.action is Action.DROP:
            if not held.opening:
                self._drop_first(flow, verdict, seat, queue)
                self._release(flow, queue)
                return
            while queue:
                self._drop_first(flow, verdict, seat, queue)
            engine.lifecycle.close(flow, "dropped")
            return
        if verdict is not None:
            engine.lifecycle.decide(flow, verdict, seat)
        self._release(flow, queue)

    def _ask_the_others(self, held: Held, seat: Seat | None) -> tuple[Verdict | None, Seat | None]:
        """Ask the plugins behind `seat` about a new flow by its first packet; it may wait again."""
        first = held.witness or held.queue[0]
        while True:
            behind = seat.index + 1 if seat is not None else 0
            outcome, seat = self._engine.judge.ask_again(held.flow, first, behind)
            if not isinstance(outcome, Hold) or seat is None:
                break
            holds = [(seat, outcome)]
            refused = self.refused(holds, 0)
            if refused is None:
                self._wait(held, holds)
                return None, None
            outcome = refused[0]
            if outcome.terminal:
                break
        assert not isinstance(outcome, Hold)
        return outcome, seat

    def _release(self, flow: Flow, queue: deque[Waiting]) -> None:
        """Let packets go on in order; if the flow has to wait again, the rest waits with it."""
        while queue and flow._inspection.held is None:
            waiting = self._pop(queue)
            if flow.end_reason and flow.mode != BLOCKED:
                self._engine.drop("hold_ended")
            else:
                self._engine.judge.release(flow, waiting)
        if flow._inspection.held is not None:
            flow._inspection.held.queue.extend(queue)

    def _drop_first(
        self, flow: Flow, verdict: Verdict, seat: Seat | None, queue: deque[Waiting]
    ) -> None:
        name = seat.name if seat is not None else ""
        self._engine.judge.drop_waiting(flow, self._pop(queue), verdict, name)

    def _end(self, flow: Flow) -> Held:
        held: Held = flow._inspection.held
        flow._inspection.held = None
        if flow.mode == HELD:
            self._engine.attachment.resume(flow)
        self.flows -= 1
        if held.witness is not None:
            self._bytes -= len(held.witness.datagram)
        for cancel in held.cancel.values():
            cancel()
        held.cancel.clear()
        held.deadlines.clear()
        self._engine.agenda.forget(held)
        return held

    def _push(self, held: Held, waiting: Waiting) -> None:
        held.queue.append(waiting)
        self.packets += 1
        self._bytes += len(waiting.datagram)

    def _pop(self, queue: deque[Waiting]) -> Waiting:
        waiting = queue.popleft()
        self.packets -= 1
        self._bytes -= len(waiting.datagram)
        return waiting
