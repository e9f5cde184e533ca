"""What plugins load anew while the appliance runs, and who of the workers has it."""

from __future__ import annotations

import math
import select
from collections.abc import Collection, Sequence
from typing import NamedTuple

from appliance_sdk.errors import ApplianceError
from appliance_sdk.server.channel import Channel
from appliance_sdk.server.loads import Job, Loaded, LoadProcess
from appliance_sdk.server.logs import log_event

_LONG_S = 60.0


class ReloadStatus(NamedTuple):
    """For health checks and statistics."""

    done: int
    """Reloads that a worker has taken."""
    failed: int
    reasons: tuple[str, ...]
    """Why what the workers have is not the newest, if it is not."""


class Reloads:
    """Runs the loads when asked to or when due, and sees that every worker gets the results."""

    def __init__(
        self,
        jobs: Sequence[Job],
        loads: Sequence[Loaded],
        channels: Sequence[Channel],
        poller: select.poll,
        now: float,
    ) -> None:
        """`loads` is what the jobs brought at the start; a running load is in `poller`."""
        self.loads = loads
        """What a worker that starts now begins with."""
        self.generation = 0
        """Of these: each reload is another one."""
        self._jobs = jobs
        self._channels = channels
        self._poller = poller
        self._loading: LoadProcess | None = None
        self._since = math.inf
        self._again = False
        self._due = self._next(now)
        self._newest = 0
        self._pending: Sequence[Loaded] = loads
        self._owed: set[int] = set()
        self._young: set[int] = set()
        """Workers that began without the newest: nobody had taken it yet."""
        self._failure = ""
        self._failed_generation = 0
        self._done = self._failed = 0

    def ask(self, now: float) -> None:
        """Load everything once more; if a load is running, when it is done."""
        if self._loading is not None:
            self._again = True
            return
        self._loading = LoadProcess(self._jobs)
        self._since = now
        self._poller.register(self._loading, select.POLLIN)

    def go_on(self, ready: Collection[int], now: float) -> None:
        """What is to be done now; `ready`: descriptors of which the poller has told."""
        if self._loading is not None and self._loading.fileno() in ready and self._loading.read():
            self._loaded(now)
        if self._due <= now:
            self._due = self._next(now)
            self.ask(now)
        for worker in list(self._owed):
            if self._channels[worker].flush():
                self._send(worker)

    def accepted(self, worker: int, generation: int) -> None:
        """A worker uses the results of that generation."""
        if generation != self._newest:
            return
        log_event("appliance.reloaded", worker=worker)
        if self.generation != generation:
            self.loads, self.generation = self._pending, generation
            self._done += 1
            self._owed |= self._young
            self._young.clear()

    def refused(self, worker: int, generation: int, error: str) -> None:
        """A plugin in a worker does not take them: it keeps what it had."""
        if generation == self._newest:
            self._fail(f"worker {worker}: {error}", once=self._failed_generation == generation)
            self._failed_generation = generation

    def started(self, worker: int) -> None:
        """Another process has taken a worker's place, with `loads`."""
        if self.generation == self._newest:
            self._owed.discard(worker)
        else:
            self._young.add(worker)

    def status(self, now: float) -> ReloadStatus:
        """How it stands."""
        reasons = []
        if self._failure:
            reasons.append(f"the last reload failed: {self._failure}")
        if now - self._since > _LONG_S:
            reasons.append(f"load() has been running for more than {_LONG_S:g} s")
        for worker in sorted(self._owed):
            reasons.append(f"worker {worker} does not listen: it has not got what was loaded anew")
        return ReloadStatus(self._done, self._failed, tuple(reasons))

    def cancel(self) -> None:
        """End a load that is running."""
        if self._loading is not None:
            self._loading.cancel()

    def _loaded(self, now: float) -> None:
        assert self._loading is not None
        self._poller.unregister(self._loading)
        process, self._loading, self._since = self._loading, None, math.inf
        try:
            loads = process.result()
        except ApplianceError as error:
            self._fail(str(error))
        else:
            self._failure = ""
            self._newest += 1
            self._pending = loads
            self._young.clear()
            self._owed = set(range(len(self._channels)))
            for worker in list(self._owed):
                self._send(worker)
            for worker in self._owed:
                log_event("appliance.reload_late", worker=worker)
        if self._again:
            self._again = False
            self.ask(now)

    def _send(self, worker: int) -> None:
        plain = [tuple(loaded) for loaded in self._pending]
        if self._channels[worker].send("loaded", generation=self._newest, loads=plain):
            self._owed.discard(worker)

    def _fail(self, error: str, *, once: bool = False) -> None:
        """`once`: it is the same failure in another worker."""
        self._failure = error
        self._failed += not once
        log_event("appliance.reload_failed", error=error)

    def _next(self, now: float) -> float:
        periods = [job.config.reload_s for job in self._jobs if job.config.reload_s > 0]
        return now + min(periods, default=math.inf)
