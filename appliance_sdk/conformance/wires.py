"""How a case's datagrams reach an appliance: a function call in virtual time, or real UDP."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from appliance_sdk.conformance.case import Ability, NotConformant
from appliance_sdk.conformance.compare import Reply
from appliance_sdk.conformance.conversation import Datagram
from appliance_sdk.dataplane.memory import Datagram as Sent
from appliance_sdk.errors import ApplianceError, HarnessError
from appliance_sdk.harness import Target, ToTarget, UdpFleet
from appliance_sdk.plugin.events import Event
from appliance_sdk.wire.geneve import PORT

_EVENTS_BYTES = 64 * 1024 * 1024
_LARGEST_BYTES = 9001 - 28
"""Of a datagram on AWS, whose network cards have an MTU of 9001: a larger one is lost."""
STRANGER = 2
"""The node that is none: an address outside the load balancer's subnets."""


class Wire(Protocol):
    """The way to one appliance and back."""

    abilities: frozenset[Ability]
    nodes: tuple[str, str, str]
    """The load balancer's two nodes, then a stranger's address."""
    addresses: tuple[str, str]
    """The appliance's; the second is used if it listens on every address."""
    mute: bool
    """Alerts were waited for as long as they may take, and none of any kind came."""

    @property
    def now(self) -> float:
        """Seconds on this wire's clock."""

    def send(self, datagram: Datagram) -> None:
        """Hand over a datagram."""

    def receive(self, patience_s: float) -> list[Reply]:
        """What has come; waits for at most so long, on this wire's clock, if that is nothing."""

    def advance(self, seconds: float) -> None:
        """Let time pass."""

    def outer_checksums(self, on: bool) -> None:
        """Send with UDP checksums or, as at first, without."""

    def alerts(self) -> list[dict[str, Any]]:
        """What the appliance has reported since the case began, as EVE JSON objects."""


class Plane(Protocol):
    """An appliance as a function: what `MemoryPlane` is, and what any Python object can be.

    A `Sent` leaves from the port that was sent from, to the node's 6081; a `Reply` says itself
    which addresses and ports it has, right or wrong.
    """

    def deliver(
        self, payload: bytes, peer: bytes, local: bytes, now: float
    ) -> Sequence[Sent | Reply]:
        """A datagram arrives; what is sent at once. `peer` is port and address of the node."""

    def advance(self, now: float) -> Sequence[Sent | Reply]:
        """Time passes; what is sent because of it."""

    def next_deadline(self) -> float:
        """When `advance` has something to do, math.inf if never."""


class MemoryWire:
    """An appliance in this process. Time moves when a case says so.

    What it reports are events, or EVE records that it has made itself.
    """

    abilities = frozenset((Ability.CLOCK, Ability.ALERTS, Ability.NODES))
    nodes = ("10.9.0.11", "10.9.0.12", "10.8.0.11")
    addresses = ("10.9.1.21", "10.9.1.22")
    origins = ("10.9.0.0/24",)
    mute = False

    def __init__(
        self,
        plane: Plane,
        events: Sequence[Event | dict[str, Any]],
        eve: Callable[[Event], dict[str, Any]],
    ) -> None:
        self._now = 0.0
        self._plane = plane
        self._events = events
        self._eve = eve
        self._replies: list[Reply] = []

    @property
    def now(self) -> float:
        """Virtual seconds since the case began."""
        return self._now

    def send(self, datagram: Datagram) -> None:
        node = socket.inet_aton(self.nodes[datagram.node])
        peer = datagram.source_port.to_bytes(2, "big") + node
        local = socket.inet_aton(self.addresses[datagram.address])
        self._take(lambda: self._plane.deliver(datagram.payload, peer, local, self._now))

    def receive(self, patience_s: float) -> list[Reply]:
        if not self._replies and patience_s > 0:
            self._pass(patience_s, until_reply=True)  # it may hold what it has not decided yet
        replies, self._replies = self._replies, []
        return replies

    def advance(self, seconds: float) -> None:
        self._pass(seconds)

    def _pass(self, seconds: float, *, until_reply: bool = False) -> None:
        end = self.now + seconds
        while (deadline := self._plane.next_deadline()) <= end:
            self._now = max(deadline, self._now)
            self._take(lambda: self._plane.advance(self._now))
            if until_reply and self._replies:
                return
            if self._plane.next_deadline() <= deadline:
                break  # it asks for the same moment again: once is enough
        self._now = end
        self._take(lambda: self._plane.advance(end))

    def outer_checksums(self, on: bool) -> None:
        raise HarnessError("there is no UDP in memory")

    def alerts(self) -> list[dict[str, Any]]:
        return [one if isinstance(one, dict) else self._eve(one) for one in self._events]

    def _take(self, ask: Callable[[], Sequence[Sent | Reply]]) -> None:
        try:
            sent = ask()
        except ApplianceError:
            raise
        except Exception as error:
            raise NotConformant(f"it raised {error!r}") from error
        for one in sent:
            if isinstance(one, Reply):
                self._replies.append(one)
                continue
            peer, local, payload = one
            source = socket.inet_ntoa(local), int.from_bytes(peer[:2], "big")
            self._replies.append(Reply(source, (socket.inet_ntoa(peer[2:6]), PORT), payload))


class UdpWire:
    """An appliance on a real address. Raises HarnessError if the nodes' addresses are taken."""

    mute = False

    def __init__(
        self,
        nodes: tuple[str, str, str],
        addresses: tuple[str, str],
        abilities: frozenset[Ability],
    ) -> None:
        self.nodes = nodes
        self.addresses = addresses
        self.abilities = abilities
        self._events: Path | None = None
        self._read_to = 0
        self._began = time.monotonic()
        self._fleet = UdpFleet(dict.fromkeys(nodes))

    @property
    def now(self) -> float:
        """Real seconds since it was opened."""
        return time.monotonic() - self._began

    def send(self, datagram: Datagram) -> None:
        target = Target("appliance", self.addresses[datagram.address], "a")
        node = self.nodes[datagram.node]
        self._fleet.send(ToTarget(target, node, datagram.source_port, datagram.payload, 0), 0.0)
        if self._fleet.errors:
            name = next(iter(self._fleet.errors))
            self._fleet.errors.clear()
            size = len(datagram.payload)
            if name == "EMSGSIZE" and size > _LARGEST_BYTES:
                return
            if name == "EMSGSIZE":
                way = f"the way to {target.address} takes no datagram of {size} bytes"
                raise HarnessError(f"{way}: its MTU is too small (feature jumbo)")
            place = f"{node}:{datagram.source_port}"
            raise HarnessError(f"the kernel did not send from {place}: {name}")

    def receive(self, patience_s: float) -> list[Reply]:
        deadline = time.monotonic() + patience_s
        while True:
            left = deadline - time.monotonic()
            arrivals, _ = self._fleet.poll(max(left, 0.0), 0.0)
            if arrivals or left <= 0:
                return [Reply(*arrival) for arrival in arrivals]

    def advance(self, seconds: float) -> None:
        time.sleep(seconds)

    def outer_checksums(self, on: bool) -> None:
        self._fleet.checksums = on

    def alerts(self) -> list[dict[str, Any]]:
        """The whole lines that were added to the appliance's EVE file since `follow`."""
        if self._events is None or not self._events.exists():
            return []
        with self._events.open("rb") as file:
            file.seek(self._read_to)
            lines = file.read(_EVENTS_BYTES).split(b"\n")[:-1]
        try:
            return [msgspec.json.decode(line, type=dict[str, Any]) for line in lines if line]
        except msgspec.DecodeError as error:
            raise NotConformant(f"what it reports is not JSON lines: {error}") from None

    def follow(self, events: Path | None) -> None:
        """From now on `alerts` are what is added to this file."""
        self._events = events
        exists = events is not None and events.exists()
        self._read_to = events.stat().st_size if events is not None and exists else 0

    def close(self) -> None:
        """Close every socket."""
        self._fleet.close()
