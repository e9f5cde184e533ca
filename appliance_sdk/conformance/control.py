"""The appliance as a process and a health port: what the suite does to it besides packets."""

from __future__ import annotations

import signal
import time

from appliance_sdk.errors import HarnessError
from appliance_sdk.harness.processes import ApplianceProcess
from appliance_sdk.harness.targets import Target


class Control:
    """One appliance on an IPv4 address; without `process` it runs already, and is not touched.

    Health checks are answered on `health_port`, nowhere if that is 0.
    """

    def __init__(
        self,
        address: str,
        *,
        process: ApplianceProcess | None = None,
        health_port: int = 0,
        health_path: str = "/",
    ) -> None:
        self.address = address
        self.health_port = health_port
        self.health_path = health_path
        self.running = process is None
        self._process = process

    @property
    def process(self) -> ApplianceProcess:
        """The process. Raises HarnessError if the suite did not start it."""
        if self._process is None:
            raise HarnessError("the suite did not start this appliance, and cannot end it")
        return self._process

    def start(self) -> None:
        """Start it; it takes a while until it answers. Raises HarnessError."""
        if self._process is not None:
            self._process.start(Target("appliance", self.address, "a"))
        self.running = True

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.running = False

    def terminate(self) -> None:
        """Ask it to drain and end: SIGTERM."""
        self.process.signal(signal.SIGTERM)

    def ended_within(self, seconds: float) -> int | None:
        """Its exit status, None if it still runs after so many real seconds."""
        deadline = time.monotonic() + seconds
        while (status := self.process.ended()) is None:
            if time.monotonic() > deadline:
                return None
            time.sleep(0.01)
        self.running = False
        return status

    def last_words(self) -> str:
        """How it ended and what it printed last, "" if it runs."""
        if self._process is None or (status := self._process.ended()) is None:
            return ""
        said = self._process.tail()
        return f"; it ended with status {status}" + (f" and said: {said}" if said else "")

    def close(self) -> None:
        """End what was started."""
        if self._process is not None:
            self._process.stop()
            self.running = False
