"""The base class of plugins: hooks to define, and what the SDK offers to them."""

from __future__ import annotations

import inspect
import re
import sys
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import msgspec

from appliance_sdk.errors import PluginError
from appliance_sdk.plugin.config import PluginConfig
from appliance_sdk.plugin.hookspecs import PLUGIN_HOOKS, refuse_near_misses

if TYPE_CHECKING:
    from appliance_sdk.plugin.events import Event
    from appliance_sdk.plugin.flow import Flow
    from appliance_sdk.plugin.handler import FlowHandler, Opening


class PluginHost(Protocol):
    """What a plugin asks of the engine it lives in."""

    now: float

    def wake_plugin(self, plugin: Plugin, after_s: float) -> None: ...
    def recheck_flows(self, plugin: Plugin) -> None: ...
    def emit_event(self, plugin: Plugin, event: Event, flow: Flow | None) -> None: ...
    def count(self, plugin: Plugin, metric: str, n: int) -> None: ...
    def degrade(self, plugin: Plugin, reason: str | None) -> None: ...


class Plugin:
    """Subclass it and define the hooks you need: a method with a hook's name is the hook.

    One instance a worker and zone, called by one thread; nothing in it may block. Declare
    `config: MyConfig` to have `[plugins.NAME]` decoded into your own `PluginConfig`.
    """

    name: ClassVar[str] = "plugin"
    """The name in configuration, logs and events; by default the class name in kebab case."""
    config_type: ClassVar[type[PluginConfig]] = PluginConfig

    config: Any
    zone: str
    _host: PluginHost | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        refuse_near_misses(cls, PLUGIN_HOOKS)
        if "name" not in vars(cls):
            cls.name = kebab(cls.__name__)
        declared = inspect.get_annotations(cls).get("config")
        if isinstance(declared, str):
            frame = sys._getframe(1)
            cls.config_type = _resolve(cls, declared, frame.f_globals, frame.f_locals)
        elif declared is not None:
            cls.config_type = declared
        if cls.config_type is not PluginConfig:
            _check_config_type(cls)

    def __init__(
        self, config: PluginConfig | None = None, *, zone: str = "default", host: Any = None
    ) -> None:
        self.config = config if config is not None else msgspec.convert({}, self.config_type)
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

    def degraded(self, reason: str | None) -> None:
        """Tell health that this plugin cannot do its work; None when it can again."""
        self._engine.degrade(self, reason)

    @property
    def _engine(self) -> PluginHost:
        if self._host is None:
            raise PluginError(self.name, "is not running in an engine; try it in a Bench")
        return self._host


def kebab(name: str) -> str:
    """`LoginGuard` as "login-guard"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()


def overrides(cls: type, base: type, name: str) -> bool:
    """Whether `cls` defines the method `name` itself instead of inheriting that of `base`."""
    return next((c for c in cls.__mro__ if name in vars(c)), base) is not base


def _resolve(cls: type, text: str, globals_: Any, locals_: Any) -> Any:
    try:
        return eval(text, dict(globals_), dict(locals_))  # the class's own annotation
    except NameError as error:
        raise PluginError(cls.__name__, f"`config: {text}` cannot be resolved: {error}") from None


def _check_config_type(cls: type[Plugin]) -> None:
    declared: Any = cls.config_type
    if declared is Any:
        cls.config_type = PluginConfig
    elif not (isinstance(declared, type) and issubclass(declared, PluginConfig)):
        raise PluginError(cls.__name__, "`config` must be declared as a PluginConfig subclass")
