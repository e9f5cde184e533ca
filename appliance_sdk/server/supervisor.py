"""The supervisor process: health checks, events, and an eye on the workers."""

from __future__ import annotations

import asyncio
import errno
import faulthandler
import os
import signal
import socket
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from appliance_sdk.errors import ApplianceError, PluginError
from appliance_sdk.plugin.events import Event, Statistics
from appliance_sdk.plugin.manager import Enabled
from appliance_sdk.plugin.sink import Sink
from appliance_sdk.server.captures import CaptureFiles
from appliance_sdk.server.channel import Channel
from appliance_sdk.server.children import CANNOT_START
from appliance_sdk.server.config import ApplianceConfig
from appliance_sdk.server.eve import EveFile
from appliance_sdk.server.health import HealthState, HttpHealth, TcpHealth
from appliance_sdk.server.logs import log_event
from appliance_sdk.server.monitor import Monitor
from appliance_sdk.server.orphan import die_with_parent
from appliance_sdk.server.sinks import SinkThread

TICK_S = 0.1
HUNG_FACTOR = 2.5
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_REFUSALS_S = 60.0
_STOP_SINKS_S = 4.0
"""For all of them together; the parent waits 5 s for this process."""


class Supervisor:
    """Runs in its own process until it is told to stop, or its parent is gone."""

    def __init__(
        self,
        config: ApplianceConfig,
        enabled_sinks: Sequence[Enabled],
        health_socket: socket.socket | None,
        parent: Channel,
        workers: Sequence[Channel],
        draining: bool,
    ) -> None:
        self._config = config
        self._parent = parent
        self._workers = workers
        self._monitor = Monitor(len(workers), config.health.stalled_s, time.monotonic())
        self._monitor.draining = draining
        self._stop = asyncio.Event()
        self._port_failed = False
        self._refusals_from = 0.0
        self._state = HealthState("starting")
        self._asked: dict[int, float] = {}
        self._stats_at = time.monotonic()
        events = config.events
        sinks: list[Sink] = [EveFile(events.file, events.types)] if events.file else []
        if events.captures:
            sinks.append(CaptureFiles(events.captures, events.captures_bytes))
        sinks += [_make(entry) for entry in enabled_sinks]
        self._sinks = [SinkThread(sink, events.queue, log_event) for sink in sinks]
        self._health: HttpHealth | TcpHealth | None = None
        if health_socket is not None and config.health.kind == "http":
            self._health = HttpHealth(health_socket, self._now_state, self._details)
        elif config.health.enabled:
            self._health = TcpHealth(config.health.address, config.health.port)

    async def run(self) -> None:
        """Until told to stop."""
        loop = asyncio.get_running_loop()
        parent = os.getppid()
        loop.set_exception_handler(self._loop_failed)
        loop.add_reader(self._parent, self._from_parent)
        for channel in self._workers:
            loop.add_reader(channel, self._from_worker, channel)
        if self._health is not None:
            await self._health.start()
        looked = time.monotonic()
        while not self._stop.is_set():
            now = time.monotonic()
            if now - looked > self._config.health.stalled_s / 2:  # it was us who stood still
                self._monitor.was_deaf(now)
            looked = now
            await self._update(now)
            self._parent.send("alive")
            self._look_for_hung(now)
            interval = self._config.events.stats_interval_s
            if interval and now - self._stats_at >= interval:
                self._write_stats(now)
            if os.getppid() != parent:
                return
            try:
                await asyncio.wait_for(self._stop.wait(), TICK_S)
            except TimeoutError:
                continue
        for channel in self._workers:  # their last words
            self._from_worker(channel)
        self._write_stats(time.monotonic(), surely=True)
        for sink in self._sinks:
            sink.finish()
        deadline = time.monotonic() + _STOP_SINKS_S
        for sink in self._sinks:
            unwritten = sink.stop(max(deadline - time.monotonic(), 0))
            if unwritten:
                log_event("sink.gave_up", sink=sink.name, lost=unwritten)

    def _now_state(self) -> HealthState:
        return self._monitor.state(time.monotonic())

    def _details(self) -> dict[str, Any]:
        details = self._monitor.details(time.monotonic())
        details["events_lost"] = sum(sink.lost for sink in self._sinks)
        return details

    async def _update(self, now: float) -> None:
        state = self._monitor.state(now)
        before = self._state
        changed = (state.name, state.healthy) != (before.name, before.healthy)
        if changed or (state.reasons and not before.reasons):
            log_event("health.changed", state=state.name, reasons=list(state.reasons))
        self._state = state
        if self._health is not None:
            try:
                await self._health.update(state)
            except OSError as error:
                if not self._port_failed:  # it is tried again with every tick
                    self._port_failed = True
                    log_event("health.port_failed", error=error)
            else:
                self._port_failed = False

    def _loop_failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Checks that cannot be accepted are said once in a while: asyncio says each of a thousand
        attempts, with a traceback, which takes longer than this process may be silent."""
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in _NO_DESCRIPTOR:
            loop.default_exception_handler(context)
        elif time.monotonic() >= self._refusals_from:
            self._refusals_from = time.monotonic() + _REFUSALS_S
            log_event("health.port_failed", error=str(error))

    def _from_parent(self) -> None:
        for kind, fields in self._parent.receive():
            if kind == "stop":
                self._stop.set()
            elif kind == "drain":
                self._monitor.draining = True
            elif kind == "restarted":
                self._monitor.restarted(fields["worker"], time.monotonic())
                self._asked.pop(fields["worker"], None)
            elif kind == "reloads":
                self._monitor.reloads = fields

    def _from_worker(self, channel: Channel) -> None:
        worker = self._workers.index(channel)
        for kind, fields in channel.receive():
            self._monitor.heard(worker, time.monotonic())
            if kind == "beat":
                for loss in self._monitor.beat(fields, time.monotonic()):
                    log_event("worker.losing", worker=worker, loss=loss)
            elif kind == "events":
                for tag, plain in fields["events"]:
                    self._put(tag, plain)

    def _put(self, tag: str, plain: dict[str, Any]) -> None:
        if self._sinks:
            event = msgspec.convert(plain, Event.registry[tag], strict=False)
            for sink in self._sinks:
                sink.put(event)

    def _look_for_hung(self, now: float) -> None:
        """Ask the parent, once, to replace a worker that does not even beat."""
        limit = HUNG_FACTOR * self._config.health.stalled_s
        for worker in range(len(self._workers)):
            silent = self._monitor.hung_s(worker, now)
            if silent > limit and worker not in self._asked:
                self._asked[worker] = now
                self._parent.send("hung", worker=worker, silent_s=round(silent, 1))

    def _write_stats(self, now: float, *, surely: bool = False) -> None:
        self._stats_at = now
        flat: dict[str, int] = {}
        for name, value in self._monitor.counters().items():
            if isinstance(value, dict):
                flat.update({f"{name}.{key}": count for key, count in value.items()})
            else:
                flat[name] = value
        flat["events_lost"] = sum(sink.lost for sink in self._sinks)
        for sink in self._sinks:
            sink.put(Statistics(counters=flat, timestamp=time.time()), surely=surely)


def _make(entry: Enabled) -> Sink:
    """A vendor's sink. Raises PluginError."""
    try:
        sink: Sink = entry.plugin(entry.decoded())
    except ApplianceError:
        raise
    except Exception as error:  # a vendor's code may raise anything
        message = f"cannot be made: {type(error).__name__}: {error}"
        raise PluginError(entry.name, message) from error
    return sink


def supervisor_process(*arguments: Any) -> None:
    """The life of the forked supervisor. Never returns."""
    status = 1
    parent: Channel = arguments[3]
    try:
        die_with_parent()
        faulthandler.enable()
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, signal.SIG_IGN)
        asyncio.run(_run(*arguments))
        status = 0
    except ApplianceError as error:
        log_event("supervisor.failed", error=str(error))
        parent.send("failed", error=str(error))
        status = CANNOT_START
    except Exception as error:
        log_event("supervisor.died", error=error)
        parent.send("failed", error=repr(error))
    finally:
        os._exit(status)


async def _run(*arguments: Any) -> None:
    await Supervisor(*arguments).run()
