"""The configuration file of an appliance: read, checked, and turned into what the parts take."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any, Literal

import msgspec

from appliance_sdk.dataplane.addresses import expand_addresses
from appliance_sdk.engine import EngineSettings
from appliance_sdk.errors import ApplianceError, ConfigError
from appliance_sdk.plugin.base import Plugin
from appliance_sdk.plugin.cidr import parse_cidr
from appliance_sdk.plugin.config import decode_config, near_miss, read_toml
from appliance_sdk.plugin.discovery import find_plugin
from appliance_sdk.plugin.manager import Enabled, Pipeline, ZoneSettings
from appliance_sdk.plugin.sink import Sink
from appliance_sdk.wire.geneve import PORT

MOST_WORKERS = 64
_MOST = 2**31 - 1
"""Of whole numbers: what setsockopt(2) takes."""


class Listen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[listen]`: where GENEVE arrives."""

    addresses: tuple[str, ...] = ("0.0.0.0",)
    """IPv4 addresses; "0.0.0.0" is every address that the machine has at start."""
    port: int = PORT
    """GWLB sends to 6081 and nowhere else; another one is for tests."""
    receive_buffer_bytes: int = 8 * 1024 * 1024
    """What the kernel may hold while a batch is judged: some 10 ms at 10 Gbit/s."""
    raw: bool | None = None
    """Answer by a raw socket (needs CAP_NET_RAW); by default if that is permitted."""
    batch: int = 64
    """Datagrams a system call."""


class Health(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[health]`: what the target group's checks ask."""

    enabled: bool = True
    address: str = "0.0.0.0"
    port: int = 80
    """80 is what a GENEVE target group checks unless it is told otherwise."""
    kind: Literal["http", "tcp"] = "http"
    """With "tcp" the port is closed while the appliance is not healthy."""
    stalled_s: float = 2
    """A worker that has not said anything for so long does not work."""


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[log]`: what the appliance says about itself, on standard error."""

    format: Literal["json", "console"] = "json"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Events(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[events]`: EVE JSON lines about the traffic."""

    file: str = ""
    """Where they are appended; empty: nowhere."""
    types: tuple[str, ...] = ()
    """Only these `event_type`s; empty: all."""
    captures: str = ""
    """The folder for what plugins save of flows, a pcapng file each; empty: nowhere."""
    captures_bytes: int = 1024 * 1024 * 1024
    """Of such files; beyond it the oldest go."""
    queue: int = 8192
    """Events that may wait for a slow disk; beyond it they are counted and lost."""
    stats_interval_s: float = 60
    """How often a `stats` event is written; 0: never."""


class Drain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[drain]`: what SIGTERM does."""

    deadline_s: float = 350
    """When to stop though flows are live: GWLB forgets them after as much silence."""
    quiet_s: float = 30
    """A flow without a packet for so long is not live any more."""
    settle_s: float = 30
    """Serve at least so long: health checks need time to fail, and new flows come until then."""


class ApplianceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file. `path` is where it was read."""

    origins: tuple[str, ...] = ()
    enable: tuple[str, ...] = ()
    workers: int = 1
    """Processes that share the port, each with the flows that a hash of their packets gives it."""
    debug: bool = False
    """Refuse packets that a plugin kept after the call; slower."""
    listen: Listen = Listen()
    health: Health = Health()
    log: Log = Log()
    events: Events = Events()
    drain: Drain = Drain()
    engine: EngineSettings = EngineSettings()
    zones: dict[str, ZoneSettings] = {}
    plugins: dict[str, dict[str, Any]] = {}
    path: str = ""

    def engine_settings(self) -> EngineSettings:
        """One worker's engine: the origins, and its share of what bounds the appliance."""
        engine = self.engine
        return msgspec.structs.replace(
            engine,
            origins=self.origins,
            max_flows=-(-engine.max_flows // self.workers),
            stream_total_bytes=-(-engine.stream_total_bytes // self.workers),
            rejects_per_s=engine.rejects_per_s / self.workers,
        )

    def enabled(self, appliance: type[Plugin] | None = None) -> list[Enabled]:
        """Import what the file enables, behind the appliance itself if that has hooks.

        Sinks are left out, see `sinks`. Raises ConfigError or PluginError.
        """
        return [entry for entry in self._found(appliance) if not is_sink(entry.plugin)]

    def sinks(self, appliance: type[Plugin] | None = None) -> list[Enabled]:
        """The sinks that the file enables. Raises ConfigError or PluginError."""
        return [entry for entry in self._found(appliance) if is_sink(entry.plugin)]

    def _found(self, appliance: type[Plugin] | None) -> list[Enabled]:
        found: list[tuple[str, Any]] = []
        if appliance is not None and appliance.name not in self.enable:
            found.append((appliance.name, appliance))
        for name in self.enable:
            is_self = appliance is not None and name == appliance.name
            plugin = appliance if is_self else self._find(name)
            found.append((_short(name, plugin), plugin))
        names = [name for name, _ in found]
        for name in self.plugins:
            if name not in names:
                hint = near_miss(name, names) if names else "list it in `enable`"
                key = f"plugins.{name}"
                raise ConfigError("no such plugin is enabled", path=self.path, key=key, hint=hint)
        return [
            Enabled(name, plugin, self.plugins.get(name, {}), self.path) for name, plugin in found
        ]

    def _find(self, name: str) -> Any:
        try:
            return find_plugin(name)
        except ApplianceError as error:
            raise ConfigError(str(error), path=self.path, key="enable") from error

    def pipeline(self, enabled: list[Enabled]) -> Pipeline:
        """The zones with their plugins, instantiated."""
        return Pipeline.build(enabled, self.zones, path=self.path)


def load_config(path: str | Path, *, offline: bool = False) -> ApplianceConfig:
    """Read and check a file. `offline`: for a replay, which needs no origins and no ports.

    Raises ConfigError naming file, key path and what to do.
    """
    data = read_toml(path)
    if "path" in data:
        raise ConfigError("unknown key `path`", path=str(path))
    config = decode_config(data, ApplianceConfig, path=path)
    config = msgspec.structs.replace(config, path=str(path))
    if offline:  # what is replayed is judged in one go
        config = msgspec.structs.replace(config, workers=1)
    if config.engine.origins:
        hint = "write it at the top of the file"
        raise ConfigError(
            "stands in the wrong place", path=str(path), key="engine.origins", hint=hint
        )
    if not config.origins and not offline:
        raise ConfigError(
            "is missing",
            path=str(path),
            key="origins",
            hint='list the GWLB\'s subnets: origins = ["10.0.1.0/24"]',
        )
    for index, text in enumerate(config.origins):
        try:
            parse_cidr(text)
        except ConfigError as error:
            key = f"origins[{index}]"
            raise ConfigError(error.message, path=str(path), key=key, hint=error.hint) from None
    _check(config)
    return config


def is_sink(plugin: Any) -> bool:
    """Whether something that was enabled takes events instead of packets."""
    return isinstance(plugin, type) and issubclass(plugin, Sink)


def _check(config: ApplianceConfig) -> None:
    for key in ("listen", "health", "events", "drain", "engine"):
        _check_numbers(getattr(config, key), key, config.path)
    problems: list[tuple[bool, str, str, str]] = [
        (
            not 1 <= config.workers <= MOST_WORKERS,
            "workers",
            f"{config.workers} is not in 1 to {MOST_WORKERS}",
            "as many as the machine has cores, or 1",
        ),
        (not config.listen.addresses, "listen.addresses", "is empty", 'try ["0.0.0.0"]'),
        (not 0 < config.listen.port < 65536, "listen.port", "is no port", "GWLB uses 6081"),
        (not 0 < config.health.port < 65536, "health.port", "is no port", "such as 8080"),
        (not 1 <= config.listen.batch <= 1024, "listen.batch", "is not in 1 to 1024", ""),
        (config.engine.max_flows < 1, "engine.max_flows", "must be at least 1", ""),
        (config.engine.recheck_batch < 1, "engine.recheck_batch", "must be at least 1", ""),
        (config.engine.expiry_batch < 1, "engine.expiry_batch", "must be at least 1", ""),
        (config.engine.hold.packets < 1, "engine.hold.packets", "must be at least 1", ""),
        (config.engine.shared.counters < 64, "engine.shared.counters", "must be at least 64", ""),
        (
            config.engine.shared.values_bytes < 4096,
            "engine.shared.values_bytes",
            "must be at least 4096",
            "",
        ),
        (config.events.queue < 1, "events.queue", "must be at least 1", ""),
        (config.health.stalled_s <= 0, "health.stalled_s", "must be more than 0", ""),
        (
            config.health.port == PORT,
            "health.port",
            "is GENEVE's port",
            "health checks need one of their own, such as 8080",
        ),
    ]
    for wrong, key, message, hint in problems:
        if wrong:
            raise ConfigError(message, path=config.path, key=key, hint=hint)
    try:
        expand_addresses(config.listen.addresses)
    except ConfigError as error:
        raise ConfigError(error.message, path=config.path, key=error.key, hint=error.hint) from None
    try:
        ipaddress.IPv4Address(config.health.address)
    except ValueError:
        message, hint = f"{config.health.address!r} is not an IPv4 address", "such as 0.0.0.0"
        raise ConfigError(message, path=config.path, key="health.address", hint=hint) from None


def _check_numbers(table: msgspec.Struct, key: str, path: str) -> None:
    """No time, size or count of ours is negative, beyond what a socket takes, or no number."""
    for name in table.__struct_fields__:
        value = getattr(table, name)
        where = f"{key}.{name}"
        if isinstance(value, msgspec.Struct):
            _check_numbers(value, where, path)
        elif isinstance(value, int | float) and not value >= 0:  # so that nan is caught, too
            raise ConfigError("must not be negative", path=path, key=where)
        elif isinstance(value, int) and value > _MOST:
            raise ConfigError(f"must be at most {_MOST:,}", path=path, key=where)


def _short(name: str, plugin: Any) -> str:
    """What a plugin is called in `[plugins.NAME]`: its own name if it is enabled by its path."""
    return name if ":" not in name else getattr(plugin, "name", name.rpartition(":")[2])
