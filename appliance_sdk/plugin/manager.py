"""Plugins in their places: instantiated for each zone, their hooks validated and in order."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
import pluggy

from appliance_sdk.errors import ConfigError, PluginError
from appliance_sdk.plugin import hookspecs
from appliance_sdk.plugin.base import Plugin, PluginHost, overrides
from appliance_sdk.plugin.config import PluginConfig, decode_config, merged, near_miss
from appliance_sdk.plugin.flow import FlowOwner
from appliance_sdk.plugin.hookspecs import PLUGIN_HOOKS
from appliance_sdk.plugin.verdict import Verdict
from appliance_sdk.wire.geneve import parse_endpoint

DEFAULT_ZONE = "default"


class ZoneSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `[zones.NAME]` table: which endpoints belong to it, what its plugins are told else."""

    endpoints: tuple[str, ...] = ()
    plugins: dict[str, dict[str, Any]] = {}


class Enabled(NamedTuple):
    """A plugin that the configuration lists, with what it is told."""

    name: str
    plugin: Any
    """A Plugin subclass, or an object with functions marked `@hookimpl`."""
    config: Mapping[str, Any] = {}
    path: str = ""
    """The file that `config` comes from, for errors."""

    def decoded(self, zone: str = "", override: Mapping[str, Any] | None = None) -> PluginConfig:
        """The typed configuration, for one zone if `override` is given."""
        config_type: type[PluginConfig] = getattr(self.plugin, "config_type", PluginConfig)
        if not override:
            key = f"plugins.{self.name}"
            return decode_config(dict(self.config), config_type, path=self.path, key=key)
        key = f"zones.{zone}.plugins.{self.name}"
        data = merged(self.config, override)
        return decode_config(data, config_type, path=self.path, key=key)


class Seat:
    """One plugin in one zone of one worker: its instance, its hooks, its policies, its errors."""

    __slots__ = (
        "config",
        "error_count",
        "error_since",
        "flow_closed",
        "flow_opened",
        "gap",
        "index",
        "loaded",
        "midstream",
        "name",
        "on_error",
        "plugin",
        "recheck",
        "start",
        "stop",
        "tripped",
        "woken",
        "zone",
    )

    def __init__(self, name: str, plugin: Any, config: PluginConfig, zone: str, index: int) -> None:
        self.name = name
        self.plugin = plugin
        self.config = config
        self.zone = zone
        self.index = index
        self.on_error = Verdict.of(config.on_error)
        self.midstream = Verdict.of(config.midstream)
        self.gap = Verdict.of(config.gap)
        self.error_count = 0
        self.error_since = 0.0
        self.tripped = False
        self.loaded: Callable[..., Any] | None = None
        self.start: Callable[..., Any] | None = None
        self.flow_opened: Callable[..., Any] | None = None
        self.recheck: Callable[..., Any] | None = None
        self.flow_closed: Callable[..., Any] | None = None
        self.woken: Callable[..., Any] | None = None
        self.stop: Callable[..., Any] | None = None

    def __repr__(self) -> str:
        return f"<Seat {self.name} in {self.zone}>"


class Owner(PluginHost, FlowOwner, Protocol):
    """What plugins, flows and handlers ask of the engine they live in."""


class Zone:
    """Endpoints judged alike, and the plugins that judge them, in the configured order."""

    __slots__ = ("name", "owner", "seats")

    owner: FlowOwner
    """The engine that its flows live in, from `Pipeline.bind` on."""

    def __init__(self, name: str, seats: tuple[Seat, ...]) -> None:
        self.name = name
        self.seats = seats


class HookManager(pluggy.PluginManager):
    """pluggy's manager, told that on a Plugin a method with a hook's name is the hook."""

    def __init__(self) -> None:
        super().__init__("appliance_sdk")
        self.add_hookspecs(hookspecs)

    def parse_hookimpl_opts(self, plugin: object, name: str) -> Any:
        """pluggy's hook for deciding what is an implementation."""
        if not isinstance(plugin, Plugin):
            return super().parse_hookimpl_opts(plugin, name)
        if name in PLUGIN_HOOKS and overrides(type(plugin), Plugin, name):
            marked = getattr(getattr(plugin, name), "appliance_sdk_impl", None)
            return marked or pluggy.HookimplOpts(
                wrapper=False,
                hookwrapper=False,
                optionalhook=False,
                tryfirst=False,
                trylast=False,
                specname=None,
            )
        return None


class Pipeline:
    """Every zone with its plugins: what the engine asks."""

    def __init__(self, zones: Mapping[str, Zone], endpoints: Mapping[int, Zone]) -> None:
        self.zones = dict(zones)
        self.endpoints = dict(endpoints)
        self.default = self.zones[DEFAULT_ZONE]

    @property
    def seats(self) -> list[Seat]:
        """All seats of all zones."""
        return [seat for zone in self.zones.values() for seat in zone.seats]

    @classmethod
    def build(
        cls,
        enabled: Sequence[Enabled],
        zones: Mapping[str, ZoneSettings] | None = None,
        *,
        path: str = "",
    ) -> Pipeline:
        """Instantiate every plugin for every zone. Raises ConfigError or PluginError."""
        settings = {DEFAULT_ZONE: ZoneSettings(), **(zones or {})}
        names = [e.name for e in enabled]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"`{name}` is listed twice", path=path, key="enable")
        built: dict[str, Zone] = {}
        endpoints: dict[int, Zone] = {}
        for zone_name, zone_settings in settings.items():
            _check_names(zone_settings.plugins, names, path, f"zones.{zone_name}.plugins")
            zone = built[zone_name] = Zone(zone_name, _seats(enabled, zone_name, zone_settings))
            for index, text in enumerate(zone_settings.endpoints):
                key = f"zones.{zone_name}.endpoints[{index}]"
                endpoint_id = _endpoint(text, path, key)
                if endpoint_id in endpoints:
                    other = endpoints[endpoint_id].name
                    raise ConfigError(f"{text} is in zone `{other}` already", path=path, key=key)
                endpoints[endpoint_id] = zone
        return cls(built, endpoints)

    def bind(self, host: Owner) -> None:
        """Tell every zone and every plugin instance which engine it lives in."""
        for zone in self.zones.values():
            zone.owner = host
        for seat in self.seats:
            if isinstance(seat.plugin, Plugin):
                seat.plugin._host = host


def _seats(enabled: Sequence[Enabled], zone: str, settings: ZoneSettings) -> tuple[Seat, ...]:
    manager = HookManager()
    seats: dict[str, Seat] = {}
    for index, entry in enumerate(enabled):
        config = entry.decoded(zone, settings.plugins.get(entry.name))
        plugin = entry.plugin
        if isinstance(plugin, type) and issubclass(plugin, Plugin):
            plugin = plugin(config, zone=zone)
        seats[entry.name] = Seat(entry.name, plugin, config, zone, index)
        try:
            manager.register(plugin, entry.name)
        except (pluggy.PluginValidationError, ValueError) as error:
            raise PluginError(entry.name, _explain(" ".join(str(error).split()))) from None
    for hook in ("loaded", "start", "flow_opened", "recheck", "flow_closed", "woken", "stop"):
        for impl in getattr(manager.hook, hook).get_hookimpls():
            setattr(seats[impl.plugin_name], hook, _with_all_arguments(hook, impl))
    return tuple(seats.values())


def _explain(text: str) -> str:
    """pluggy's words for a hook with arguments that do not exist, said shorter."""
    found = re.search(r"for hook '(\w+)'.*Argument\(s\) \{(.*?)\}", text)
    if not found:
        return text
    offered = ", ".join(inspect.signature(getattr(hookspecs, found[1])).parameters)
    taken = found[2].replace("'", "`")
    given = f"it is given: {offered}" if offered else "it is given nothing"
    return f"{found[1]}() takes {taken}, which it is not given ({given})"


def _with_all_arguments(hook: str, impl: pluggy.HookImpl) -> Callable[..., Any]:
    """The implementation, callable with every argument of the hook also if it takes fewer."""
    spec = list(inspect.signature(getattr(hookspecs, hook)).parameters)
    function: Callable[..., Any] = impl.function
    if list(impl.argnames) == spec:
        return function
    picked = [spec.index(name) for name in impl.argnames]
    return lambda *arguments: function(*(arguments[i] for i in picked))


def _endpoint(text: str, path: str, key: str) -> int:
    try:
        return parse_endpoint(text)
    except ValueError as error:
        raise ConfigError(
            str(error), path=path, key=key, hint="such as vpce-0a1b2c3d4e5f60718"
        ) from None


def _check_names(given: Iterable[str], known: list[str], path: str, key: str) -> None:
    for name in given:
        if name not in known:
            hint = near_miss(name, known) or "list it in `enable`"
            raise ConfigError(
                "no such plugin is enabled", path=path, key=f"{key}.{name}", hint=hint
            )
