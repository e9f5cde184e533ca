"""Running `load()` in a process of its own, where it may block, and bringing the results home."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgpack

from appliance_sdk.engine import Engine
from appliance_sdk.errors import ApplianceError, ConfigError, PluginError
from appliance_sdk.plugin.config import PluginConfig
from appliance_sdk.plugin.loading import run_load, unpack
from appliance_sdk.plugin.manager import DEFAULT_ZONE, Enabled
from appliance_sdk.server.config import ApplianceConfig
from appliance_sdk.server.orphan import die_with_parent


class Job(NamedTuple):
    """One call of a plugin's `load`: for all zones that configure it alike."""

    entry: Enabled
    config: PluginConfig
    zones: tuple[str, ...]


class Loaded(NamedTuple):
    """What one job brought; `packed` goes to the plugin's instances in `zones`."""

    plugin: str
    zones: tuple[str, ...]
    packed: bytes


def load_jobs(config: ApplianceConfig, enabled: Sequence[Enabled]) -> list[Job]:
    """Every load that the configuration asks for. Raises ConfigError."""
    jobs = []
    for entry in enabled:
        common = []
        for zone in [DEFAULT_ZONE, *(z for z in config.zones if z != DEFAULT_ZONE)]:
            settings = config.zones.get(zone)
            override = settings.plugins.get(entry.name) if settings else None
            if override:
                jobs.append(Job(entry, entry.decoded(zone, override), (zone,)))
            else:
                common.append(zone)
        if common:
            jobs.append(Job(entry, entry.decoded(), tuple(common)))
    return jobs


def run_jobs(jobs: Iterable[Job]) -> list[Loaded]:
    """Run the loads here and now. Raises what they raise: ConfigError or PluginError."""
    results = []
    for job in jobs:
        packed = run_load(job.entry, job.config)
        if packed is not None:
            results.append(Loaded(job.entry.name, job.zones, packed))
    return results


def apply_loads(engine: Engine, loads: Iterable[Loaded]) -> None:
    """Hand results to the plugins of an engine. Raises PluginError."""
    for loaded in loads:
        engine.load(loaded.plugin, unpack(loaded.packed), loaded.zones)


class LoadProcess:
    """A child that runs loads; readable when it has a result."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._reader, writer = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(self._reader)
            _child(jobs, writer)
        os.close(writer)
        self._data = bytearray()

    def fileno(self) -> int:
        """For poll."""
        return self._reader

    def read(self) -> bool:
        """Take what is there; True when the child has said all."""
        piece = os.read(self._reader, 1 << 20)
        self._data += piece
        return not piece

    def result(self) -> list[Loaded]:
        """What the child brought, after `read` said that this is all. Raises what `load` raised."""
        os.close(self._reader)
        _, status = os.waitpid(self.pid, 0)
        if status or not self._data:  # killed, perhaps in the middle of a word
            code = os.waitstatus_to_exitcode(status)
            raise PluginError("", f"load() ended its process with status {code}")
        kind, payload = msgpack.unpackb(self._data)
        if kind == "config":
            message, path, key, hint = payload
            raise ConfigError(message, path=path, key=key, hint=hint)
        if kind == "plugin":
            raise PluginError(*payload)
        return [Loaded(plugin, tuple(zones), packed) for plugin, zones, packed in payload]

    def cancel(self) -> None:
        """End the child."""
        os.kill(self.pid, signal.SIGKILL)
        os.close(self._reader)
        os.waitpid(self.pid, 0)


def run_loads(jobs: Sequence[Job]) -> list[Loaded]:
    """Run them in a process of their own and wait for it. Raises what `load` raised."""
    process = LoadProcess(jobs)
    while not process.read():
        continue
    return process.result()


def _child(jobs: Sequence[Job], writer: int) -> None:
    """Never returns."""
    status = 1
    try:
        die_with_parent()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        data = msgpack.packb(_outcome(jobs))
        while data:
            data = data[os.write(writer, data) :]
        status = 0
    finally:
        os._exit(status)


def _outcome(jobs: Sequence[Job]) -> tuple[str, Any]:
    try:
        return "ok", [tuple(loaded) for loaded in run_jobs(jobs)]
    except ConfigError as error:
        return "config", (error.message, error.path, error.key, error.hint)
    except PluginError as error:
        return "plugin", (error.plugin, error.message)
    except ApplianceError as error:
        return "plugin", ("", str(error))
