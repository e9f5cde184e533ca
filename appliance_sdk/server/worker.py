"""A worker process: an engine, its sockets, and nothing that blocks."""

from __future__ import annotations

import faulthandler
import fcntl
import itertools
import os
import signal
import socket
import struct
import termios
import time
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from appliance_sdk.dataplane.addresses import granted_buffer
from appliance_sdk.dataplane.handover import Handover
from appliance_sdk.dataplane.sockets import SocketPlane
from appliance_sdk.engine import Engine
from appliance_sdk.engine.shared import SharedState
from appliance_sdk.errors import ApplianceError
from appliance_sdk.plugin.events import Event
from appliance_sdk.plugin.flow import Flow
from appliance_sdk.plugin.manager import Enabled
from appliance_sdk.server.channel import Channel
from appliance_sdk.server.children import CANNOT_START
from appliance_sdk.server.collector import Collector
from appliance_sdk.server.config import ApplianceConfig
from appliance_sdk.server.loads import Loaded, apply_loads
from appliance_sdk.server.logs import log_event
from appliance_sdk.server.orphan import die_with_parent

BEAT_S = 0.2
_COUNT_S, _COUNTED = 0.005, 1000
"""While draining, of each beat: for counting flows, so many before the clock is asked again."""
_LAST_WORDS_S = 3.0
"""At the end every flow is an event: so long may the supervisor take none before they are lost."""


class Worker:
    """Runs in its own process until it is told to stop, or its parent is gone."""

    def __init__(
        self,
        number: int,
        config: ApplianceConfig,
        enabled: Sequence[Enabled],
        loads: Sequence[Loaded],
        listeners: Sequence[socket.socket],
        handover: Handover | None,
        shared: SharedState | None,
        parent: Channel,
        supervisor: Channel,
        generation: int = 0,
    ) -> None:
        """`generation`: of the loads, see `Reloads`."""
        self._number = number
        self._config = config
        self._parent = parent
        self._supervisor = supervisor
        self._listeners = listeners
        self._buffer_bytes = min(map(granted_buffer, listeners))
        self._events: list[tuple[str, Any]] = []
        self._draining = False
        self._stopping = False
        self._beat_at = 0.0
        self._wall = time.time() - time.monotonic()
        now = time.monotonic()
        self._engine = Engine(
            config.pipeline(list(enabled)),
            config.engine_settings(),
            now=now,
            emit=self._emit,
            log=log_event,
            debug=config.debug,
            first_flow_id=int.from_bytes(os.urandom(4), "big") << 20 | 1,
            shared=shared,
        )
        self._uncounted: Iterator[Flow] | None = None
        self._live = 0
        apply_loads(self._engine, loads)
        self._generation = generation
        self._engine.start()
        listen = config.listen
        self._handover = handover
        self._plane = SocketPlane(
            self._engine,
            listeners,
            raw=listen.raw,
            batch=listen.batch,
            shared_ports=handover is not None,
            handover=handover,
        )

    def run(self) -> None:
        """The batch loop."""
        log_event("worker.started", worker=self._number, raw_socket=self._plane.raw)
        self._parent.send("up", worker=self._number, raw=self._plane.raw)
        parent = os.getppid()
        channel = self._parent.fileno()
        collector = Collector(time.monotonic())
        while not self._stopping:
            taken = self._plane.poll(BEAT_S, (channel,))
            if self._plane.ready:
                self._obey()
            now = time.monotonic()
            if not taken:
                collector.idle(now, self._engine.flow_count)
            if self._events:
                self._send_events()
            if now - self._beat_at >= BEAT_S:
                self._beat(now)
                if os.getppid() != parent:
                    break
        self._engine.close(time.monotonic())
        self._plane.close()
        self._send_events(patience_s=_LAST_WORDS_S)
        self._beat(time.monotonic())
        self._supervisor.finish(_LAST_WORDS_S)

    def _obey(self) -> None:
        for kind, fields in self._parent.receive():
            if kind == "stop":
                self._stopping = True
            elif kind == "drain":
                self._draining = True
            elif kind == "loaded":
                self._reload(fields["generation"], fields["loads"])

    def _reload(self, generation: int, plain: Sequence[Sequence[Any]]) -> None:
        if generation <= self._generation:  # said to the process that was here before
            return
        self._generation = generation
        loads = [Loaded(name, tuple(zones), packed) for name, zones, packed in plain]
        answer = {"worker": self._number, "generation": generation}
        try:
            apply_loads(self._engine, loads)
        except ApplianceError as error:
            log_event("plugin.load_failed", worker=self._number, error=str(error))
            self._parent.send("refused", error=str(error), **answer)
        else:
            self._parent.send("accepted", **answer)

    def _emit(self, event: Event) -> None:
        event.timestamp += self._wall
        kind = type(event)
        plain = msgspec.to_builtins(event, builtin_types=(bytes,))
        self._events.append((f"{kind.__module__}:{kind.__qualname__}", plain))

    def _send_events(self, patience_s: float = 0.0) -> None:
        """Hand events on; with patience, no more at a time than the supervisor takes."""
        events, self._events = self._events, []
        for at in range(0, len(events), 256):
            self._supervisor.send("events", events=events[at : at + 256])
            if patience_s and not self._supervisor.finish(patience_s):
                break

    def _beat(self, now: float) -> None:
        self._beat_at = now
        self._wall = time.time() - now
        engine, plane = self._engine, self._plane
        plane.ask_drops()
        beat = {
            "worker": self._number,
            "pid": os.getpid(),
            "received": plane.received,
            "batches": plane.batches,
            "forwarded": engine.forwarded,
            "edited": engine.edited,
            "injected": engine.injected,
            "dropped": dict(engine.drops),
            "flows": engine.flow_count,
            "flows_opened": engine.flows_opened,
            "flows_closed": engine.flows_closed,
            "waiting_bytes": sum(_waiting(sock) for sock in self._listeners),
            "receive_buffer_bytes": self._buffer_bytes,
            "kernel_drops": plane.kernel_drops,
            "truncated": plane.truncated,
            "send_errors": dict(plane.send_errors),
            "unbindable_ports": plane.unbindable_ports,
            "metrics": dict(engine.metrics),
            "plugin_errors": dict(engine.guard.errors),
            "degraded": engine.degraded,
            "messages_lost": self._supervisor.lost,
            "shared_evicted": self._engine.shared.counters.evicted,
            "shared_missed": self._engine.shared.values.missed,
            "handed_over": self._handover.handed_over if self._handover else 0,
            "handover_lost": self._handover.lost if self._handover else 0,
        }
        self._supervisor.send("beat", **beat)
        if self._draining:
            self._count_live(now)

    def _count_live(self, now: float) -> None:
        """Flows that were busy lately: some of the table at a time, told when all are counted."""
        quiet, until = now - self._config.drain.quiet_s, time.monotonic() + _COUNT_S
        if self._uncounted is None:
            self._uncounted, self._live = self._engine.flows, 0
        while True:
            some = list(itertools.islice(self._uncounted, _COUNTED))
            self._live += sum(flow.last_seen > quiet and not flow.end_reason for flow in some)
            if len(some) < _COUNTED:
                self._parent.send("live", worker=self._number, flows=self._live)
                self._uncounted = None
                return
            if time.monotonic() > until:
                return


def _waiting(sock: socket.socket) -> int:
    """Bytes of the next datagram that waits: 0 if none does (udp(7), FIONREAD)."""
    answer = fcntl.ioctl(sock, termios.FIONREAD, b"\0\0\0\0")
    return int(struct.unpack("i", answer)[0])


def worker_process(number: int, *arguments: Any) -> None:
    """The life of a forked worker. Never returns."""
    status = CANNOT_START
    parent: Channel = arguments[6]
    try:
        die_with_parent()
        faulthandler.enable()
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, signal.SIG_IGN)
        worker = Worker(number, *arguments)
        status = 1
        worker.run()
        status = 0
    except ApplianceError as error:
        log_event("worker.failed", worker=number, error=str(error))
        parent.send("failed", worker=number, error=str(error))
    except Exception as error:
        log_event("worker.failed", worker=number, error=error)
        parent.send("failed", worker=number, error=repr(error))
    finally:
        os._exit(status)
