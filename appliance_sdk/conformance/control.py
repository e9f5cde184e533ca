"""The appliance as a process and a health port: what the suite does to it besides packets."""

from __future__ import annotations

import contextlib
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager

from appliance_sdk.errors import HarnessError
from appliance_sdk.harness.process_tree import holders, send_signal
from appliance_sdk.harness.processes import ApplianceProcess
from appliance_sdk.harness.states import Target
from appliance_sdk.wire.geneve import PORT

_LOOK_S = 0.01
_SAID_BYTES = 2000


class Control:
    """One appliance on an IPv4 address; without `process` it runs already, and is not touched.

    Health checks are answered on `health_port`, nowhere if that is 0. `inside` is entered when it
    is started: its network namespace, if it has one of its own.
    """

    def __init__(
        self,
        address: str,
        *,
        process: ApplianceProcess | None = None,
        health_port: int = 0,
        health_path: str = "/",
        inside: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self.address = address
        self.health_port = health_port
        self.health_path = health_path
        self.running = process is None
        self.was_healthy: bool | None = None
        """Whether a health check succeeded since it was started; None if none was made."""
        self._process = process
        self._inside = inside

    @property
    def process(self) -> ApplianceProcess:
        """The process. Raises HarnessError if the suite did not start it."""
        if self._process is None:
            raise HarnessError("the suite did not start this appliance, and cannot end it")
        return self._process

    def start(self, output: int | None = None) -> None:
        """Start it; it takes a while until it answers. Raises HarnessError.

        What it prints goes to the descriptor `output`, if one is given.
        """
        if self._process is not None:
            with self._inside():
                self._process.start(self._target, output=output)
        self.running = True
        self.was_healthy = None

    def kill(self) -> None:
        """End it as a crash would, with all its children."""
        self.process.kill()
        self.running = False

    def terminate(self) -> None:
        """Ask it to drain and end: SIGTERM."""
        self.process.signal(signal.SIGTERM)

    def ended_within(self, seconds: float) -> int | None:
        """Its exit status, None if it still runs after so many real seconds."""
        status = _ended_within(self.process, seconds)
        self.running = status is None
        return status

    def second(self, patience_s: float) -> tuple[int | None, str]:
        """Start another one beside it: with which status that ended, and what it said.

        The status is None if it still ran after so many real seconds; then it is killed.
        """
        twin = self.process.twin()
        with tempfile.TemporaryFile() as output:
            try:
                with self._inside():
                    twin.start(self._target, output=output.fileno())
                status = _ended_within(twin, patience_s)
            finally:
                twin.kill()
            output.seek(0)
            said = output.read(_SAID_BYTES).decode(errors="replace").strip()
        return status, said

    def family(self) -> list[int]:
        """The appliance's processes."""
        return self.process.family()

    def data_path(self) -> list[int]:
        """The processes that take packets and answer no health checks.

        All of them if that cannot be told apart: one process may do both.
        """
        members = self.family()
        packets = holders(members, "udp", self.address, PORT)
        checks = holders(members, "tcp", self.address, self.health_port)
        return sorted(packets - checks) or members

    @contextlib.contextmanager
    def paused(self, pids: Iterable[int]) -> Iterator[None]:
        """Stop processes, as if they hung, and let them go on at the end, whatever happens."""
        stopped = []
        try:
            for pid in pids:
                stopped.append(pid)
                send_signal(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in stopped:
                send_signal(pid, signal.SIGCONT)

    def last_words(self, patience_s: float = 0.0) -> str:
        """How it ended and what it printed last, "" if it runs yet after so many real seconds."""
        if self._process is None:
            return ""
        status = _ended_within(self._process, patience_s)
        if status is None:
            return ""
        said = self._process.tail()
        hint = " (a daemon? the suite needs it in the foreground)" if status == 0 else ""
        return f"; it ended with status {status}{hint}" + (f" and said: {said}" if said else "")

    def close(self) -> None:
        """End what was started."""
        if self._process is not None:
            self._process.stop()
            self.running = False

    @property
    def _target(self) -> Target:
        return Target("appliance", self.address, "a")


def _ended_within(process: ApplianceProcess, seconds: float) -> int | None:
    deadline = time.monotonic() + seconds
    while (status := process.ended()) is None:
        if time.monotonic() > deadline:
            return None
        time.sleep(_LOOK_S)
    return status
