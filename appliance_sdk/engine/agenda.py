"""What comes up by the clock: timers, flows that are silent for too long, and rechecks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from appliance_sdk.engine.decision import BLOCKED
from appliance_sdk.engine.held import Held
from appliance_sdk.flow.timers import Timers
from appliance_sdk.plugin.flow import Flow
from appliance_sdk.plugin.handler import FlowHandler
from appliance_sdk.plugin.verdict import Verdict

if TYPE_CHECKING:
    from appliance_sdk.engine.engine import Engine
    from appliance_sdk.plugin.manager import Seat


class Agenda:
    """What one engine has to do without a packet, a bounded amount at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._settings = engine.settings
        self._expiry = engine.table.expiry
        self._timers: Timers[FlowHandler[Any] | Seat | Held] = Timers()
        self._rechecks: deque[tuple[Seat, Iterator[Flow]]] = deque()

    def wake(self, target: FlowHandler[Any] | Seat, after_s: float) -> None:
        """Set the one timer of a handler or seat."""
        self._timers.set(target, self._engine.now + max(0.0, after_s))

    def wake_at(self, held: Held, deadline: float) -> None:
        """Set when a flow's waiting is over."""
        self._timers.set(held, deadline)

    def forget(self, target: FlowHandler[Any] | Held) -> None:
        """It waits no more, if it did."""
        self._timers.cancel(target)

    def recheck(self, seat: Seat) -> None:
        """Have a plugin judge every live flow of its zone again, beginning at the next advance."""
        self._rechecks = deque(entry for entry in self._rechecks if entry[0] is not seat)
        if seat.recheck is not None:
            self._rechecks.append((seat, iter(self._engine.table)))

    def next_deadline(self) -> float:
        """When `advance` has something to do."""
        if self._rechecks:
            return self._engine.now
        return min(self._timers.next_deadline(), self._expiry.next_deadline())

    def advance(self, now: float) -> None:
        """A bounded amount of what is due: expiry, timers, rechecks."""
        for flow in self._expiry.due(now, self._settings.expiry_batch):
            self._engine.lifecycle.close(flow, "blocked" if flow.mode == BLOCKED else "idle")
        for _ in range(self._settings.expiry_batch):
            target = self._timers.due(now)
            if target is None:
                break
            self._woken(target)
        if self._rechecks:
            self._recheck_some()

    def _woken(self, target: FlowHandler[Any] | Seat | Held) -> None:
        engine = self._engine
        if isinstance(target, Held):
            engine.holding.expired(target)
            return
        if not isinstance(target, FlowHandler):
            if target.woken is not None:
                engine.guard.call(target, "woken", engine.now, target.woken)
            return
        flow, seat = target.flow, target._seat
        outcome = engine.guard.call(seat, "woken", engine.now, target.woken)
        engine.lifecycle.obey(flow, seat, outcome)

    def _recheck_some(self) -> None:
        engine = self._engine
        seat, flows = self._rechecks[0]
        flow: Flow | None = None
        for _ in range(self._settings.recheck_batch):
            flow = next(flows, None)
            if flow is None:
                break
            blocked = flow.mode == BLOCKED
            if (
                flow._zone.name != seat.zone
                or flow._asked <= seat.index
                or flow.end_reason
                or seat.recheck is None
                or (blocked and flow.decided_by != seat.name)
            ):
                continue
            handler = flow._inspection.handlers.get(seat)
            outcome = engine.guard.call(seat, "recheck", engine.now, seat.recheck, flow, handler)
            if blocked:
                if outcome is not None and not (isinstance(outcome, Verdict) and outcome.terminal):
                    engine.lifecycle.close(flow, "rejudged")  # its next packet opens it anew
                continue
            if isinstance(outcome, FlowHandler):
                outcome = engine.attachment.offered_late(flow, seat, outcome, "recheck")
            engine.lifecycle.obey(flow, seat, outcome)
        # A plugin may have asked for another round meanwhile, which stands in the place of this.
        if flow is None and self._rechecks and self._rechecks[0][1] is flows:
            self._rechecks.popleft()
