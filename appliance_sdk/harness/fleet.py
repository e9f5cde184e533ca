"""What the harness needs of the appliances behind it, wherever they run."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from appliance_sdk.harness.checks import Probe
from appliance_sdk.harness.outcomes import Place, ToTarget
from appliance_sdk.harness.states import Target


class Arrival(NamedTuple):
    """A datagram from an appliance to a node, with the UDP ports it really had."""

    source: Place
    destination: Place
    payload: bytes


class ProbeResult(NamedTuple):
    """How a health check ended: `reason` is "" for a success, else AWS's reason code."""

    probe: Probe
    reason: str


class Fleet(Protocol):
    """The appliances: in this process with virtual time, or behind real UDP."""

    realtime: bool
    """Time passes by itself; `poll` waits."""

    def start(self, target: Target, now: float) -> None:
        """Have the appliance of a target come up. Raises ApplianceError."""

    def stop(self, name: str) -> None:
        """Take it away at once, as a crash would."""

    def hang(self, name: str) -> None:
        """Stop it where it stands, its sockets open."""

    def resume(self, name: str) -> None:
        """Let it go on; one that does not hang is left alone."""

    def listen(self, node: str) -> None:
        """Hear what is sent to another node's address as well. Raises HarnessError."""

    def ended(self, name: str) -> str:
        """How it ended by itself, and what it said last; "" while it runs."""

    def send(self, datagram: ToTarget, now: float) -> None:
        """Hand it a datagram."""

    def probe(self, probe: Probe, now: float) -> None:
        """Begin a health check; its result comes from `poll`."""

    def poll(self, timeout_s: float, now: float) -> tuple[list[Arrival], list[ProbeResult]]:
        """What came from the appliances; waits at most `timeout_s` real seconds for something."""

    def next_deadline(self) -> float:
        """When appliances in this process have something to do, math.inf otherwise."""

    def close(self) -> None:
        """End everything that was started."""
