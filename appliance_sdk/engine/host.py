"""What plugins, flows and handlers ask of the engine they live in."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from appliance_sdk.plugin.events import Alert, Event
from appliance_sdk.plugin.flow import Flow
from appliance_sdk.plugin.verdict import Verdict

if TYPE_CHECKING:
    from appliance_sdk.engine.engine import Engine
    from appliance_sdk.plugin.base import Plugin
    from appliance_sdk.plugin.handler import FlowHandler
    from appliance_sdk.plugin.packet import Packet


class Host:
    """The engine's face towards plugins (PluginHost) and flows (FlowOwner)."""

    def __init__(
        self, engine: Engine, emit: Callable[[Event], None], log: Callable[..., None]
    ) -> None:
        self._engine = engine
        self._emit = emit
        self.log = log
        self.judged: Flow | None = None
        """The flow whose packet is in hand."""
        self.packet: Packet | None = None
        self._seats = {id(seat.plugin): seat for seat in engine.pipeline.seats}

    @property
    def now(self) -> float:
        """The engine's time."""
        return self._engine.now

    @now.setter
    def now(self, value: float) -> None:
        raise AttributeError("a plugin cannot set the time")

    def wake_plugin(self, plugin: Plugin, after_s: float) -> None:
        """Set a plugin's timer."""
        self._engine.agenda.wake(self._seats[id(plugin)], after_s)

    def recheck_flows(self, plugin: Plugin) -> None:
        """Have every live flow judged again by one plugin."""
        self._engine.agenda.recheck(self._seats[id(plugin)])

    def emit_event(self, plugin: Plugin, event: Event, flow: Flow | None) -> None:
        """Pass on a plugin's event."""
        self.report(event, flow, self._seats[id(plugin)].name)

    def count(self, plugin: Plugin, metric: str, n: int) -> None:
        """Add to a plugin's counter."""
        self._engine.metrics[f"{self._seats[id(plugin)].name}.{metric}"] += n

    def shared_count(self, scope: str, key: bytes, window_s: float, n: int) -> int:
        """Add to a counter that all workers have."""
        return self._engine.shared.count(scope, key, window_s, n, self._engine.now)

    def shared_put(self, scope: str, key: bytes, value: bytes, ttl_s: float) -> bool:
        """Store a value for all workers; False if it is too large."""
        now = self._engine.now
        return self._engine.shared.values.put((scope, key), value, now + ttl_s, now)

    def shared_get(self, scope: str, key: bytes) -> bytes | None:
        """A value that any worker has stored."""
        return self._engine.shared.values.get((scope, key), self._engine.now)

    def degrade(self, plugin: Plugin, reason: str | None) -> None:
        """Remember what a plugin says about itself; None takes it back."""
        name = self._seats[id(plugin)].name
        if reason is None:
            self._engine.degraded.pop(name, None)
        else:
            self._engine.degraded[name] = reason

    def log_for(self, plugin: Plugin, message: str, fields: dict[str, Any]) -> None:
        """Log what a plugin says, under its name and zone."""
        seat = self._seats[id(plugin)]
        more = {"fields": fields} if fields else {}
        self.log("plugin.said", plugin=seat.name, zone=seat.zone, message=message, **more)

    def alert(self, flow: Flow, message: str, rule: str, severity: int, fields: Any) -> None:
        """Report an alert on a flow."""
        to_server = flow.packet.to_server if flow.packet is not None else True
        event = Alert(
            message=message, rule=rule, severity=severity, fields=dict(fields), to_server=to_server
        )
        caller = self._engine.guard.calling
        self.report(event, flow, caller.name if caller else "")

    def decide(self, flow: Flow, verdict: Verdict) -> None:
        """A plugin decides a flow by `flow.set`."""
        self._engine.lifecycle.decide_unprompted(flow, verdict, self._engine.guard.calling)

    def record(self, flow: Flow, packets: int) -> None:
        """A plugin wants a flow's last packets kept."""
        self._engine.recording.start(flow, packets)

    def save(self, flow: Flow, reason: str, and_next: int) -> None:
        """A plugin wants them reported."""
        caller = self._engine.guard.calling
        name = caller.name if caller else ""
        self._engine.recording.save(flow, name, str(reason), and_next)

    def wake(self, handler: FlowHandler[Any], after_s: float) -> None:
        """Set a handler's timer; not of a flow that has ended or is decided, which has none, nor
        of a handler that another one has replaced."""
        flow = handler.flow
        if flow.end_reason or flow.verdict.terminal:
            return
        if flow._inspection.handlers.get(handler._seat) is not handler:
            return
        if flow.before is None:  # in no slot: not in the table yet, or never
            handler._wake_in_s = after_s
        else:
            self._engine.agenda.wake(handler, after_s)

    def report(self, event: Event, flow: Flow | None, plugin: str) -> None:
        """Fill in what every event carries, and pass it on."""
        event.timestamp = self.now
        event.plugin = plugin
        if flow is not None:
            event.flow = flow.info()
        self._emit(event)
