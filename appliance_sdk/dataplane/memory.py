"""Datagrams handed to the engine by a function call: for tests, with their own idea of time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from appliance_sdk.dataplane.tasks import TaskLoop
from appliance_sdk.engine import FORWARD

if TYPE_CHECKING:
    from appliance_sdk.engine import Engine


class Datagram(NamedTuple):
    """One outer datagram that the appliance sends: from `local`, to the node in `peer`."""

    peer: bytes
    local: bytes
    payload: bytes


class MemoryPlane:
    """Delivers one datagram at a time and returns what the appliance sends for it, in order."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._tasks = TaskLoop(lambda: engine.now)
        engine.tasks = self._tasks

    def deliver(self, payload: bytes, peer: bytes, local: bytes, now: float) -> list[Datagram]:
        """Hand over one datagram; `peer` is port and IPv4 address as in a sockaddr_in."""
        decision = self.engine.receive(payload, 0, len(payload), peer, local, now)
        if self._tasks.busy:
            self._tasks.pump()
        sent = self._outbox()
        return [Datagram(peer, local, payload), *sent] if decision == FORWARD else sent

    def advance(self, now: float) -> list[Datagram]:
        """Let time pass."""
        if self._tasks.busy:
            self.engine.now = now
            self._tasks.pump()
        self.engine.advance(now)
        return self._outbox()

    def next_deadline(self) -> float:
        """When `advance` has something to do, math.inf if nothing is pending."""
        return min(self.engine.next_deadline(), self._tasks.next_deadline())

    def close(self) -> None:
        """Give up what plugins wait for."""
        self._tasks.close()

    def _outbox(self) -> list[Datagram]:
        sent = [Datagram(*entry) for entry in self.engine.outbox]
        self.engine.outbox.clear()
        return sent
