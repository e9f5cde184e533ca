"""The base class of plugins: hooks to define, and what the SDK offers to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from appliance_sdk.errors import PluginError
from appliance_sdk.plugin.configurable import Configurable
from appliance_sdk.plugin.hookspecs import PLUGIN_HOOKS, refuse_near_misses
from appliance_sdk.plugin.shared import Shared

if TYPE_CHECKING:
    from appliance_sdk.plugin.config import PluginConfig
    from appliance_sdk.plugin.events import Event
    from appliance_sdk.plugin.flow import Flow
    from appliance_sdk.plugin.handler import FlowHandler, Opening


class PluginHost(Protocol):
    """What a plugin asks of the engine it lives in."""

    now: float

    def shared_count(self, scope: str, key: bytes, window_s: float, n: int) -> int: ...
    def shared_put(self, scope: str, key: bytes, value: bytes, ttl_s: float) -> bool: ...
    def shared_get(self, scope: str, key: bytes) -> bytes | None: ...
    def wake_plugin(self, plugin: Plugin, after_s: float) -> None: ...
    def recheck_flows(self, plugin: Plugin) -> None: ...
    def emit_event(self, plugin: Plugin, event: Event, flow: Flow | None) -> None: ...
    def count(self, plugin: Plugin, metric: str, n: int) -> None: ...
    def degrade(self, plugin: Plugin, reason: str | None) -> None: ...
    def log_for(self, plugin: Plugin, message: str, fields: dict[str, Any]) -> None: ...


class Plugin(Configurable):
    """Subclass it and define the hooks you need: a method with a hook's name is the hook.

    One instance a worker and zone, called by one thread; nothing in it may block. Declare
    `config: MyConfig` to have `[plugins.NAME]` decoded into your own `PluginConfig`.
    """

    zone: str
    _host: PluginHost | None = None
    _shared: Shared | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        refuse_near_misses(cls, PLUGIN_HOOKS)

    def __init__(
        self, config: PluginConfig | None = None, *, zone: str = "default", host: Any = None
    ) -> None:
        super().__init__(config)
        self.zone = zone
        self._host = host

    @classmethod
    def load(cls, config: Any) -> Any:
        """Hook: in a process of its own, may block; the result goes to `loaded`."""

    def loaded(self, data: Any) -> None:
        """Hook: swap in what `load` returned."""

    def start(self) -> None:
        """Hook: before the first packet."""

    def flow_opened(self, flow: Flow) -> Opening:
        """Hook: judge a new flow."""

    def recheck(self, flow: Flow, handler: FlowHandler[Any] | None) -> Opening:
        """Hook: judge a live flow again."""

    def flow_closed(self, flow: Flow, handler: FlowHandler[Any] | None) -> None:
        """Hook: the flow is over."""

    def woken(self) -> None:
        """Hook: the time asked for with `wake` has come."""

    def stop(self) -> None:
        """Hook: the worker stops."""

    @property
    def now(self) -> float:
        """Seconds on the engine's clock; it never jumps and has no meaning outside the process."""
        return self._engine.now

    def wake(self, after_s: float) -> None:
        """Have `woken` called in `after_s` seconds; a second call moves the first."""
        self._engine.wake_plugin(self, after_s)

    def recheck_flows(self) -> None:
        """Have `recheck` called for each live flow, some at a time between packets."""
        if self._host is not None:
            self._host.recheck_flows(self)

    def emit(self, event: Event, flow: Flow | None = None) -> None:
        """Report an event to the sinks."""
        self._engine.emit_event(self, event, flow)

    def count(self, metric: str, n: int = 1) -> None:
        """Add to a counter of this plugin; summed over zones and workers."""
        self._engine.count(self, metric, n)

    @property
    def shared(self) -> Shared:
        """Counters and small values that this plugin's instances in all workers share."""
        if self._shared is None:
            self._shared = Shared(self._engine, self.name, self.zone)
        return self._shared

    def degraded(self, reason: str | None) -> None:
        """Tell health that this plugin cannot do its work; None when it can again."""
        self._engine.degrade(self, reason)

    def log(self, message: str, **fields: Any) -> None:
        """Tell the operator, in the appliance's own log, on standard error.

        Not for each flow, that is what events are for: packets wait while a line is written.
        """
        self._engine.log_for(self, message, fields)

    @property
    def _engine(self) -> PluginHost:
        if self._host is None:
            raise PluginError(self.name, "is not running in an engine; try it in a Bench")
        return self._host


def overrides(cls: type, base: type, name: str) -> bool:
    """Whether `cls` defines the method `name` itself instead of inheriting that of `base`."""
    return next((c for c in cls.__mro__ if name in vars(c)), base) is not base
