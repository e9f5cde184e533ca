"""Replaying captures with the plugins of a configuration: in memory, or over real UDP."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from appliance_sdk.dataplane.addresses import open_listeners
from appliance_sdk.dataplane.loopback import LoopbackReport, replay_over_udp
from appliance_sdk.dataplane.replay import Replayed, ReplayReport, replay_capture
from appliance_sdk.engine import Engine
from appliance_sdk.errors import ApplianceError
from appliance_sdk.plugin.events import Event, FlowEnded
from appliance_sdk.plugin.manager import Enabled
from appliance_sdk.server.channel import Channel
from appliance_sdk.server.children import Child
from appliance_sdk.server.config import ApplianceConfig, Listen
from appliance_sdk.server.loads import apply_loads, load_jobs, run_jobs
from appliance_sdk.server.worker import worker_process

_START_S, _STOP_S = 20.0, 20.0


@dataclass
class ReplayResult:
    """What a replay showed: every event in order, and the balance of packets."""

    capture: str
    events: list[Event] = field(default_factory=list)
    metrics: Counter[str] = field(default_factory=Counter)
    plugin_errors: Counter[str] = field(default_factory=Counter)
    packets: int = 0
    forwarded: int = 0
    edited: int = 0
    injected: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    flows_opened: int = 0
    flows_closed: int = 0
    over_udp: bool = False
    raw_socket: bool = False
    damage: str = ""

    @property
    def flows(self) -> list[FlowEnded]:
        """The flows, in the order in which they began."""
        ended = [e for e in self.events if isinstance(e, FlowEnded)]
        return sorted(ended, key=lambda e: e.flow.id if e.flow else 0)


def replay_in_memory(
    capture: str | Path,
    config: ApplianceConfig,
    enabled: Sequence[Enabled],
    log: Callable[..., None],
) -> ReplayResult:
    """Judge a capture at its own time, without a socket. Raises ConfigError or PluginError."""
    loads = run_jobs(load_jobs(config, enabled))
    result = ReplayResult(str(capture))
    engines: list[Engine] = []

    def make(now: float) -> Engine:
        engine = Engine(
            config.pipeline(list(enabled)),
            msgspec.structs.replace(config.engine_settings(), origins=("0.0.0.0/0",)),
            now=now,
            emit=result.events.append,
            log=log,
        )
        apply_loads(engine, loads)
        engine.start()
        engines.append(engine)
        return engine

    numbered = 0

    def number(replayed: Replayed) -> None:
        nonlocal numbered
        for event in result.events[numbered:]:
            if event.timestamp == replayed.timestamp:  # else from a timer, before the packet
                event.packet_number = replayed.number
        numbered = len(result.events)

    report: ReplayReport = replay_capture(capture, make, on_packet=number)
    engine = engines[0]
    result.metrics, result.plugin_errors = engine.metrics, engine.guard.errors
    result.packets, result.forwarded, result.edited = (
        report.packets,
        report.forwarded,
        report.edited,
    )
    result.injected, result.dropped, result.damage = (
        report.injected,
        report.dropped,
        report.damage,
    )
    result.flows_opened, result.flows_closed = report.flows_opened, report.flows_closed
    return result


def replay_by_udp(
    capture: str | Path, config: ApplianceConfig, enabled: Sequence[Enabled]
) -> ReplayResult:
    """Send a capture to the appliance, in a process of its own, as GENEVE over loopback.

    Raises ConfigError or PluginError if it cannot start, ApplianceError if it breaks.
    """
    loads = run_jobs(load_jobs(config, enabled))
    # Addresses of its own for each process: replays may run side by side.
    pid = os.getpid()
    network = f"127.{64 + (pid >> 8) % 64}.{pid & 0xFF}"
    target, nodes = f"{network}.20", (f"{network}.11", f"{network}.12")
    listen = Listen(addresses=(target,), raw=config.listen.raw)
    config = msgspec.structs.replace(config, listen=listen, origins=("127.0.0.0/8",))
    listeners = open_listeners(listen.addresses, listen.port)
    # Nobody listens while the capture is sent: all that is said until then has to wait.
    (control, worker_control), (worker_events, events) = Channel.pair(), Channel.pair(1 << 40)
    arguments = (config, enabled, loads, listeners, None, None, worker_control, worker_events)
    child = Child("worker", lambda: worker_process(0, *arguments))
    child.fork(time.monotonic())
    result = ReplayResult(str(capture), over_udp=True)
    watch = _Watch(child, control, events, result)
    try:
        watch.until("up", _START_S)
        report = replay_over_udp(capture, (target, listen.port), nodes=nodes)
        control.send("stop")
        watch.until("end", _STOP_S)
    finally:
        watch.kill()
        for listener in listeners:
            listener.close()
    _balance(result, report, watch.beat)
    return result


class _Watch:
    """Listens to a worker and sees that it does not outlive the replay."""

    def __init__(
        self, child: Child, control: Channel, events: Channel, result: ReplayResult
    ) -> None:
        self._child = child
        self._control = control
        self._events = events
        self._result = result
        self.beat: Mapping[str, Any] = {}

    def until(self, wanted: str, timeout_s: float) -> None:
        """Wait for "up", or for the "end" of the process. Raises ApplianceError."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self._child.pid, os.WNOHANG) if self._child.pid else (0, 0)
            if pid:
                self._child.pid = 0
            self._hear()
            for kind, fields in self._control.receive():
                if kind == "up":
                    self._result.raw_socket = fields["raw"]
                    if wanted == "up":
                        return
                if kind == "failed":
                    raise ApplianceError(fields["error"])
            if pid:
                code = os.waitstatus_to_exitcode(status)
                if wanted == "end" and code == 0:
                    self._hear()
                    return
                raise ApplianceError(f"the appliance's process ended with status {code}")
            time.sleep(0.005)
        raise ApplianceError(f"the appliance's process did not answer within {timeout_s:.0f} s")

    def kill(self) -> None:
        """End the process if it is still there."""
        if self._child.pid:
            os.kill(self._child.pid, signal.SIGKILL)
            os.waitpid(self._child.pid, 0)
            self._child.pid = 0

    def _hear(self) -> None:
        for kind, fields in self._events.receive(100_000):
            if kind == "beat":
                self.beat = fields
            else:
                for tag, plain in fields["events"]:
                    event = msgspec.convert(plain, Event.registry[tag], strict=False)
                    self._result.events.append(event)


def _balance(result: ReplayResult, report: LoopbackReport, beat: Mapping[str, Any]) -> None:
    """What the appliance counted, held against what really came back.

    An answer that the appliance made itself cannot be told from an edited packet by looking at it,
    but every packet that it forwarded as it was must have come back, to the byte.
    """
    result.packets = report.packets
    result.edited, result.injected = beat.get("edited", 0), beat.get("injected", 0)
    result.dropped = Counter(report.skipped)
    result.dropped.update(beat.get("dropped", {}))
    lost = result.packets - result.dropped.total() - result.edited - report.answered
    if lost:
        result.dropped["lost_on_the_way"] += lost
    result.forwarded = result.packets - result.dropped.total()
    result.metrics = Counter(beat.get("metrics", {}))
    result.plugin_errors = Counter(beat.get("plugin_errors", {}))
    result.flows_opened = beat.get("flows_opened", 0)
    result.flows_closed = beat.get("flows_closed", 0)
    result.damage = report.damage
