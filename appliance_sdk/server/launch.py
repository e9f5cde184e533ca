"""The parent process: loads, opens the sockets, forks, and forks again what dies."""

from __future__ import annotations

import gc
import mmap
import os
import resource
import select
import signal
import socket
import time
from functools import partial

from appliance_sdk.dataplane.addresses import granted_buffer, open_groups
from appliance_sdk.dataplane.handover import Handover, inbox_pair
from appliance_sdk.dataplane.selector import selector
from appliance_sdk.engine.shared import SharedState, shared_bytes
from appliance_sdk.errors import PluginError
from appliance_sdk.plugin.base import Plugin
from appliance_sdk.server.channel import Channel
from appliance_sdk.server.children import CANNOT_START, Child, wait_for
from appliance_sdk.server.config import ApplianceConfig
from appliance_sdk.server.health import open_health_socket
from appliance_sdk.server.loads import load_jobs, run_loads
from appliance_sdk.server.logs import configure_logs, log_event
from appliance_sdk.server.reloads import Reloads, ReloadStatus
from appliance_sdk.server.supervisor import supervisor_process
from appliance_sdk.server.worker import worker_process

_TICK_S = 0.1
_HUNG_SUPERVISOR_S = 5.0


class Launcher:
    """Runs an appliance in this process and its children until a signal ends it."""

    def __init__(self, config: ApplianceConfig, appliance: type[Plugin] | None = None) -> None:
        self._config = config
        self._enabled = config.enabled(appliance)
        self._sinks = config.sinks(appliance)
        for sink in self._sinks:
            sink.decoded()  # mistakes come out here
        self._jobs = load_jobs(config, self._enabled)
        config.pipeline(self._enabled)  # mistakes in zones come out here, not in a worker
        self._loads = run_loads(self._jobs)
        self._told: ReloadStatus | None = None
        """What the supervisor knows of reloads."""
        self._ready = False
        self._answering = False
        self._raw: bool | None = None
        self._failure = ""
        self._drain_since: float | None = None
        self._live: dict[int, int] = {}
        self._poller = select.poll()

    def run(self) -> None:
        """Start everything and stay until the end. Raises ConfigError or PluginError at start."""
        config = self._config
        listen = config.listen
        self._program = selector(config.workers, int.from_bytes(os.urandom(8), "big"))
        self._listeners = open_groups(
            listen.addresses,
            listen.port,
            config.workers,
            self._program,
            receive_buffer_bytes=listen.receive_buffer_bytes,
        )
        granted = min(map(granted_buffer, self._listeners[0]))
        if granted < listen.receive_buffer_bytes:
            hint = "raise the sysctl net.core.rmem_max, or give the process CAP_NET_ADMIN"
            wanted = listen.receive_buffer_bytes
            log_event("listen.small_buffer", bytes=granted, wanted=wanted, hint=hint)
        # Before the fork, and not of one process: what all have and write.
        self._shared = mmap.mmap(-1, shared_bytes(config.engine.shared, config.workers))
        self._inboxes = [inbox_pair() for _ in range(config.workers)]
        self._health_socket = open_health_socket(config.health)
        self._to_supervisor, self._from_parent = Channel.pair()
        self._worker_channels = [Channel.pair() for _ in range(config.workers)]
        self._event_channels = [Channel.pair() for _ in range(config.workers)]
        self._wakeup, wakeup_writer = socket.socketpair()
        for sock in (self._wakeup, wakeup_writer):
            sock.setblocking(False)
        signal.set_wakeup_fd(wakeup_writer.fileno(), warn_on_full_buffer=False)
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(signum, lambda *_: None)
        _raise_descriptor_limit()
        gc.collect()
        gc.freeze()
        self._supervisor = Child("supervisor", self._be_supervisor)
        self._workers = [
            Child(f"worker {n}", partial(self._be_worker, n)) for n in range(config.workers)
        ]
        now = time.monotonic()
        channels = [ours for ours, _ in self._worker_channels]
        self._reloads = Reloads(self._jobs, self._loads, channels, self._poller, now)
        try:
            for child in self._children:
                child.fork(now)
            self._serve()
        finally:
            self._end()

    @property
    def _children(self) -> list[Child]:
        return [self._supervisor, *self._workers]

    def _be_worker(self, number: int) -> None:
        signal.set_wakeup_fd(-1)
        if self._health_socket is not None:
            self._health_socket.close()  # whoever holds it keeps checks waiting
        worker_process(
            number,
            self._config,
            self._enabled,
            self._reloads.loads,
            self._listeners[number],
            self._handover(number),
            SharedState(self._config.engine.shared, self._shared, number, self._config.workers),
            self._worker_channels[number][1],
            self._event_channels[number][0],
            self._reloads.generation,
        )

    def _handover(self, number: int) -> Handover | None:
        if self._config.workers == 1:
            return None
        writers = [writer for _, writer in self._inboxes]
        return Handover(number, self._program, self._inboxes[number][0], writers)

    def _be_supervisor(self) -> None:
        signal.set_wakeup_fd(-1)
        for listeners in self._listeners:  # packets are the workers'
            for listener in listeners:
                listener.close()
        channels = [pair[1] for pair in self._event_channels]
        draining = self._drain_since is not None
        supervisor_process(
            self._config,
            self._sinks,
            self._health_socket,
            self._from_parent,
            channels,
            draining,
        )

    def _serve(self) -> None:
        self._poller.register(self._wakeup, select.POLLIN)
        self._poller.register(self._to_supervisor, select.POLLIN)
        for ours, _ in self._worker_channels:
            self._poller.register(ours, select.POLLIN)
        looked = time.monotonic()
        while True:
            ready = {fd for fd, _ in self._poller.poll(_TICK_S * 1000)}
            now = time.monotonic()
            if now - looked > _HUNG_SUPERVISOR_S:  # it was us who stood still
                self._supervisor.heard = now
            looked = now
            if self._wakeup.fileno() in ready and self._signals(now):
                return
            self._hear(now)
            self._reloads.go_on(ready, now)
            self._bury(now)
            self._tell(now)
            self._watch(now)
            if self._failure and not self._ready:
                raise PluginError("", self._failure)
            if self._drain_since is not None and self._drained(now):
                return

    def _signals(self, now: float) -> bool:
        """Obey the signals that came; True if the end is now."""
        try:
            numbers = self._wakeup.recv(4096)
        except BlockingIOError:
            return False
        for number in numbers:
            if number == signal.SIGHUP:
                self._reloads.ask(now)
            elif number in (signal.SIGTERM, signal.SIGINT):
                if self._drain_since is not None or self._raw is None:  # nobody served yet
                    return True
                self._drain_since = now
                log_event("appliance.draining", deadline_s=self._config.drain.deadline_s)
                self._to_supervisor.send("drain")
                for ours, _ in self._worker_channels:
                    ours.send("drain")
        return False

    def _hear(self, now: float) -> None:
        for kind, fields in self._to_supervisor.receive():
            self._supervisor.heard = now
            if kind == "alive":
                self._answering = True
            elif kind == "failed":
                self._failure = fields["error"]
            elif kind == "hung":
                child = self._workers[fields["worker"]]
                log_event("worker.hung", worker=fields["worker"], silent_s=fields["silent_s"])
                child.abort(time.monotonic())
        for ours, _ in self._worker_channels:
            ours.flush()
            for kind, fields in ours.receive():
                if kind == "up":
                    self._raw = fields["raw"]
                elif kind == "live":
                    self._live[fields["worker"]] = fields["flows"]
                elif kind == "failed":
                    self._failure = fields["error"]
                elif kind == "accepted":
                    self._reloads.accepted(**fields)
                elif kind == "refused":
                    self._reloads.refused(**fields)
        if not self._ready and self._answering and self._raw is not None:
            self._ready = True
            log_event("appliance.started", raw_socket=self._raw)

    def _bury(self, now: float) -> None:
        """Start again what has died."""
        for child in self._children:
            if child.pid:
                child.insist(now)
                pid, status = os.waitpid(child.pid, os.WNOHANG)
                if not pid:
                    continue
                code = os.waitstatus_to_exitcode(status)
                if code != CANNOT_START and child is self._supervisor:
                    log_event("supervisor.died", status=code)
                elif code != CANNOT_START:
                    log_event("worker.died", worker=child.name, status=code)
                child.died(now)
            if not child.pid and child.due <= now and (self._ready or not self._failure):
                child.fork(now)
                if child is self._supervisor:
                    self._told = None
                else:
                    number = self._workers.index(child)
                    self._reloads.started(number)
                    self._to_supervisor.send("restarted", worker=number)
                    if self._drain_since is not None:
                        self._worker_channels[number][0].send("drain")

    def _watch(self, now: float) -> None:
        """End a supervisor that does not answer: the kernel would go on accepting its checks."""
        silent = now - self._supervisor.heard
        if self._supervisor.pid and silent > _HUNG_SUPERVISOR_S:
            log_event("supervisor.hung", silent_s=round(silent, 1))
            self._supervisor.kill(signal.SIGKILL)
            self._supervisor.heard = now

    def _tell(self, now: float) -> None:
        """Let health checks know whether the workers have the newest data."""
        status = self._reloads.status(now)
        if status != self._told and self._to_supervisor.send("reloads", **status._asdict()):
            self._told = status

    def _drained(self, now: float) -> bool:
        """Whether nothing is left to serve, and health checks had the time to fail."""
        assert self._drain_since is not None
        drain = self._config.drain
        since = now - self._drain_since
        if since >= drain.deadline_s:
            return True
        quiet = len(self._live) == len(self._workers) and not any(self._live.values())
        return quiet and since >= min(drain.settle_s, drain.deadline_s)

    def _end(self) -> None:
        """Stop the workers, then the supervisor, which has their last events."""
        self._reloads.cancel()
        for (ours, _), child in zip(self._worker_channels, self._workers, strict=True):
            if child.pid:
                ours.send("stop")
        wait_for([c for c in self._workers if c.pid])
        if self._supervisor.pid:
            self._to_supervisor.send("stop")
            wait_for([self._supervisor])
        for listeners in self._listeners:
            for listener in listeners:
                listener.close()
        for pair in self._inboxes:
            for inbox in pair:
                inbox.close()
        if self._health_socket is not None:
            self._health_socket.close()
        signal.set_wakeup_fd(-1)
        if self._ready:
            log_event("appliance.stopped", live_flows=sum(self._live.values()))


def run_appliance(config: ApplianceConfig, appliance: type[Plugin] | None = None) -> None:
    """Run until a signal says stop. Raises ConfigError or PluginError if it cannot start."""
    configure_logs(config.log)
    Launcher(config, appliance).run()


def _raise_descriptor_limit() -> None:
    """Without a raw socket each source port in use takes a descriptor: have as many as may be."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
