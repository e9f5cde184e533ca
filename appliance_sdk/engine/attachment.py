"""Which handlers see the packets of a flow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from appliance_sdk.engine.decision import BYPASSED, HANDLED
from appliance_sdk.plugin.base import overrides
from appliance_sdk.plugin.flow import Flow
from appliance_sdk.plugin.handler import FlowHandler
from appliance_sdk.plugin.inspection import Hooks
from appliance_sdk.plugin.verdict import Verdict

if TYPE_CHECKING:
    from appliance_sdk.engine.engine import Engine
    from appliance_sdk.plugin.manager import Seat


class Attachment:
    """Attaches handlers to the flows of one engine and takes them off; a flow that nobody looks at
    is bypassed."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._wants: dict[type, tuple[bool, bool]] = {}

    def offered(
        self, flow: Flow, seat: Seat, handler: FlowHandler[Any], hook: str
    ) -> Verdict | None:
        """Attach what a hook has returned; what counts instead if that cannot be."""
        if handler._flow is not None and handler._flow is not flow:
            problem = "the same handler object for a second flow"
            return self._engine.guard.nonsense(seat, hook, problem, self._engine.now)
        if type(handler).__struct_config__.frozen:
            return self._engine.guard.nonsense(seat, hook, "a frozen handler", self._engine.now)
        self.attach(flow, seat, handler)
        return None

    def offered_late(
        self, flow: Flow, seat: Seat, handler: FlowHandler[Any], hook: str
    ) -> Verdict | None:
        """The same for a flow that is in the table: the handler's timer is set, too."""
        verdict = self.offered(flow, seat, handler, hook)
        if verdict is None:
            self.start_timer(handler)
        return verdict

    def start_timer(self, handler: FlowHandler[Any]) -> None:
        """Set what a handler asked for before its flow was in the table."""
        after_s, handler._wake_in_s = handler._wake_in_s, None
        if after_s is not None:
            self._engine.host.wake(handler, after_s)

    def attach(self, flow: Flow, seat: Seat, handler: FlowHandler[Any]) -> None:
        """Let a handler see the flow from now on, in the place of its plugin's former one."""
        inspection = flow.inspect()
        inspection.unhook(seat)
        former = inspection.handlers.get(seat)
        if former is not None and former is not handler:
            self._engine.agenda.forget(former)
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

    def detach(self, flow: Flow, seat: Seat) -> None:
        """The plugin needs no more of the flow; its timers and `flow_closed` go on."""
        flow._inspection.unhook(seat)
        self._settle(flow)

    def resume(self, flow: Flow) -> None:
        """A flow goes on: who wants to see its packets?"""
        seen = flow._inspection
        wanted = seen.on_packet or seen.on_data or seen.record is not None
        flow.mode = HANDLED if wanted else BYPASSED

    def recorded(self, flow: Flow) -> None:
        """A flow's packets are to be on record, or no more."""
        if flow.mode in (BYPASSED, HANDLED):
            self.resume(flow)

    def _settle(self, flow: Flow) -> None:
        """Let go what nobody wants any more."""
        if not flow._inspection.on_data:
            self._engine.streams.close(flow)
        if flow.mode == HANDLED:
            self.resume(flow)


def _in_order(hooks: Hooks) -> Hooks:
    return tuple(sorted(hooks, key=lambda entry: entry[0].index))
