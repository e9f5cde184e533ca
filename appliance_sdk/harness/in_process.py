"""Appliances in the same process: the real engine with virtual time, no socket."""

from __future__ import annotations

import functools
import math
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from appliance_sdk.dataplane.memory import MemoryPlane
from appliance_sdk.engine import Engine, EngineSettings
from appliance_sdk.errors import HarnessError
from appliance_sdk.harness.agenda import Agenda
from appliance_sdk.harness.checks import Probe
from appliance_sdk.harness.fleet import Arrival, ProbeResult
from appliance_sdk.harness.forked import SHORT_DRAIN, Forked
from appliance_sdk.harness.outcomes import ToTarget
from appliance_sdk.harness.states import FAILED, TIMED_OUT, Target
from appliance_sdk.plugin.base import Plugin
from appliance_sdk.plugin.enabling import enable
from appliance_sdk.plugin.events import Event
from appliance_sdk.plugin.loading import run_load, unpack
from appliance_sdk.plugin.manager import Pipeline, ZoneSettings
from appliance_sdk.server.config import ApplianceConfig, Listen
from appliance_sdk.wire.geneve import PORT

_BUFFER_BYTES = 212_992
"""What a socket holds for a process that hangs: Linux's net.core.rmem_default."""


class InProcess:
    """An appliance made of plugins, for a fleet in memory.

    Keyword arguments go to the plugins' configuration, by field name; `settings` are the engine's.
    """

    def __init__(
        self,
        *plugins: type[Plugin],
        settings: EngineSettings | None = None,
        zones: dict[str, ZoneSettings] | None = None,
        **config: Any,
    ) -> None:
        self.plugins = plugins
        self._enabled = enable(plugins, config)
        self._engine = settings if settings is not None else EngineSettings()
        self._zones = zones

    @property
    def recipe(self) -> tuple[Any, ...]:
        """What it is made of: equal for two that behave alike."""
        return self.plugins, [one.config for one in self._enabled], self._engine, self._zones

    def start(
        self,
        now: float,
        emit: Callable[[Event], None],
        *,
        origins: tuple[str, ...] = ("0.0.0.0/0",),
    ) -> Engine:
        """A running engine. Raises ConfigError or PluginError."""
        pipeline = Pipeline.build(self._enabled, self._zones)
        settings = msgspec.structs.replace(self._engine, origins=origins)
        engine = Engine(pipeline, settings, now=now, emit=emit, log=_ignore, debug=True)
        for entry, config in zip(self._enabled, (e.decoded() for e in self._enabled), strict=True):
            packed = run_load(entry, config)
            if packed is not None:
                engine.load(entry.name, unpack(packed))
        engine.start()
        return engine

    def forked(
        self,
        health_port: int,
        *,
        origins: str = "127.0.0.0/8",
        events: str = "",
        log: Path | None = None,
        addresses: tuple[str, ...] = (),
        raw: bool | None = None,
    ) -> Forked:
        """The same appliance as a process of its own. Raises HarnessError if it cannot be one.

        It listens on the address of its target and on `addresses`; `raw`: it answers by a raw
        socket, by default if it may.
        """
        if len(self.plugins) != 1:
            raise HarnessError("over UDP an appliance is one plugin; for more use Subprocess(…)")
        config = self._enabled[0].config
        settings = ApplianceConfig(
            engine=self._engine,
            zones=self._zones or {},
            listen=Listen(addresses=addresses, raw=raw),
            drain=SHORT_DRAIN,
        )
        return Forked(
            self.plugins[0],
            config,
            health_port=health_port,
            origins=origins,
            events=events,
            settings=settings,
            log=log,
        )


class MemoryFleet:
    """Appliances by the target's name; "" stands for every target that has no entry."""

    realtime = False

    def __init__(self, appliances: Mapping[str, InProcess]) -> None:
        self._appliances = dict(appliances)
        self.engines: dict[str, Engine] = {}
        """By target name, while the appliance runs."""
        self.events: dict[str, list[Event]] = {}
        """What each appliance reported, by target name."""
        self.unhealthy: dict[str, str] = {}
        """Targets whose health checks shall fail, with the reason code."""
        self._planes: dict[str, MemoryPlane] = {}
        self._hung: dict[str, list[ToTarget]] = {}
        """Who hangs, and what waits in its socket's buffer."""
        self._agenda = Agenda()
        self._arrivals: list[Arrival] = []
        self._results: list[ProbeResult] = []

    def start(self, target: Target, now: float) -> None:
        made = self._appliances.get(target.name, self._appliances.get(""))
        if made is None:
            raise HarnessError(f"no appliance was given for target {target.name}")
        events = self.events.setdefault(target.name, [])
        self.engines[target.name] = engine = made.start(now, events.append)
        self._planes[target.name] = MemoryPlane(engine)

    def stop(self, name: str) -> None:
        self.engines.pop(name, None)
        plane = self._planes.pop(name, None)
        if plane is not None:
            plane.close()
        self._hung.pop(name, None)

    def ended(self, name: str) -> str:
        return ""

    def hang(self, name: str) -> None:
        if name in self._planes:
            self._hung.setdefault(name, [])

    def resume(self, name: str) -> None:
        for datagram in self._hung.pop(name, ()):
            self._agenda.add(-math.inf, functools.partial(self._deliver, datagram))

    def listen(self, node: str) -> None:
        """Every address is heard here."""

    def send(self, datagram: ToTarget, now: float) -> None:
        waiting = self._hung.get(datagram.target.name)
        if waiting is None:
            self._deliver(datagram, now)
        elif sum(len(one.payload) for one in waiting) < _BUFFER_BYTES:
            waiting.append(datagram)

    def _deliver(self, datagram: ToTarget, now: float) -> None:
        plane = self._planes.get(datagram.target.name)
        if plane is None:
            return
        peer = datagram.source_port.to_bytes(2, "big") + socket.inet_aton(datagram.node)
        local = socket.inet_aton(datagram.target.address)
        sent = plane.deliver(datagram.payload, peer, local, now)
        self._arrivals += [_arrival(*one) for one in sent]

    def probe(self, probe: Probe, now: float) -> None:
        name = probe.target.name
        reason = self.unhealthy.get(name, "") if name in self.engines else FAILED
        if name in self._hung:
            if probe.check.protocol == "TCP":
                reason = ""  # its kernel takes the connection
            else:
                result = ProbeResult(probe, TIMED_OUT)
                due = now + probe.check.timeout_s
                self._agenda.add(due, lambda _: self._results.append(result))
                return
        self._results.append(ProbeResult(probe, reason))

    def poll(self, timeout_s: float, now: float) -> tuple[list[Arrival], list[ProbeResult]]:
        self._agenda.advance(now)
        for name, plane in self._planes.items():
            if name not in self._hung and plane.next_deadline() <= now:
                self._arrivals += [_arrival(*one) for one in plane.advance(now)]
        arrivals, self._arrivals = self._arrivals, []
        results, self._results = self._results, []
        return arrivals, results

    def next_deadline(self) -> float:
        running = (plane for name, plane in self._planes.items() if name not in self._hung)
        planes = min((plane.next_deadline() for plane in running), default=math.inf)
        return min(planes, self._agenda.next_deadline())

    def close(self) -> None:
        for engine in self.engines.values():
            engine.close(engine.now)
        for plane in self._planes.values():
            plane.close()
        self.engines.clear()
        self._planes.clear()


def _arrival(peer: bytes, local: bytes, payload: bytes) -> Arrival:
    port = int.from_bytes(peer[:2], "big")
    source = socket.inet_ntoa(local), port
    return Arrival(source, (socket.inet_ntoa(peer[2:]), PORT), payload)


def _ignore(event: str, **fields: Any) -> None:
    """Logs of an appliance under test go nowhere: its events are in `MemoryFleet.events`."""
