"""Processes that are to be there as long as the appliance runs."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Sequence

_GRACE_S = 5.0
"""Between being told to stop and being killed."""
_ABORT_S = 1.0
"""Between being aborted and being killed."""
CANNOT_START = 3
"""Exit status of a child that could not start; its message says why."""
_BACKOFF_FROM_S, _BACKOFF_TO_S = 0.05, 5.0
_HEALTHY_RUN_S = 10.0
"""A process that ran so long before it died is started again at once."""


class Child:
    """One forked process that is to be there as long as the appliance runs."""

    def __init__(self, name: str, start: Callable[[], None]) -> None:
        self.name = name
        self.pid = 0
        self.started = 0.0
        self.due = 0.0
        self.heard = 0.0
        self._start = start
        self._backoff = 0.0
        self._kill_at = math.inf

    def fork(self, now: float) -> None:
        """Start the process."""
        pid = os.fork()
        if not pid:
            try:
                self._start()
            finally:
                os._exit(1)  # whatever it raised: this is not the parent's code to go on with
        self.pid, self.started, self.heard = pid, now, now
        self._kill_at = math.inf

    def died(self, now: float) -> None:
        """The process has ended: when to start the next one."""
        self.pid = 0
        if now - self.started >= _HEALTHY_RUN_S:
            self._backoff = 0.0
        self.due = now + self._backoff
        self._backoff = min(max(2 * self._backoff, _BACKOFF_FROM_S), _BACKOFF_TO_S)

    def kill(self, signum: int) -> None:
        """Send a signal, if the process is there."""
        if self.pid:
            os.kill(self.pid, signum)

    def abort(self, now: float) -> None:
        """End a hung process with its stack in the log, if it can still write one."""
        self.kill(signal.SIGABRT)
        self._kill_at = now + _ABORT_S

    def insist(self, now: float) -> None:
        """Kill a process that was aborted and is there yet: a stopped one takes no SIGABRT."""
        if self._kill_at <= now:
            self.kill(signal.SIGKILL)


def wait_for(children: Sequence[Child]) -> None:
    """Wait for processes that were told to stop, and kill those that do not."""
    deadline = time.monotonic() + _GRACE_S
    for child in children:
        while child.pid:
            pid, _ = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                child.pid = 0
            elif time.monotonic() > deadline:
                child.kill(signal.SIGKILL)
                os.waitpid(child.pid, 0)
                child.pid = 0
            else:
                time.sleep(0.01)
