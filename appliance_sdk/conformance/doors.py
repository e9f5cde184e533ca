"""The ways to an appliance under test: in this process, as a process of its own, or running."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from appliance_sdk.conformance.case import Ability
from appliance_sdk.conformance.control import Control
from appliance_sdk.conformance.features import Features
from appliance_sdk.conformance.places import Place
from appliance_sdk.conformance.rig import START_S, Rig, Tap
from appliance_sdk.conformance.wires import MemoryWire, Plane, UdpWire
from appliance_sdk.errors import HarnessError
from appliance_sdk.plugin.events import Event
from appliance_sdk.server.eve import eve_record

MakePlane = Callable[[Callable[[Event], None], float], Plane]
"""Called with where events go and the time; makes a new appliance."""


class Door(Protocol):
    """A way to one appliance; each case has a rig of its own."""

    description: str
    """What is tested, in a few words."""
    abilities: frozenset[Ability]

    def open(self, features: Features, seed: str, tap: Tap | None) -> AbstractContextManager[Rig]:
        """A rig for one case. Raises HarnessError if the appliance does not come up."""

    def close(self) -> None:
        """End everything that was started."""


class MemoryDoor:
    """An appliance in this process, a new one for each case: the same seed, the same bytes."""

    abilities = MemoryWire.abilities

    def __init__(self, make: MakePlane, description: str) -> None:
        self.description = description
        self._make = make

    @contextlib.contextmanager
    def open(self, features: Features, seed: str, tap: Tap | None) -> Iterator[Rig]:
        events: list[Event | dict[str, Any]] = []
        wire = MemoryWire(self._make(events.append, 0.0), events, eve_record)
        yield Rig(wire, features, seed, tap=tap)

    def close(self) -> None:
        return


class UdpDoor:
    """An appliance behind real UDP; `control` starts it if that is the suite's to do.

    It is the same appliance for all cases, unless one ended it. What it reports is read from the
    EVE JSON file `events`, if it writes one. `inside` is entered while sockets may be made: the
    load balancer's network namespace, if it has one.
    """

    def __init__(
        self,
        description: str,
        place: Place,
        control: Control,
        *,
        events: Path | None = None,
        may_restart: bool = False,
        start_s: float = START_S,
        inside: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self.description = description
        self.control = control
        self.abilities = frozenset({Ability.SOCKETS})
        if place.nodes[0] != place.nodes[1]:
            self.abilities |= {Ability.NODES}
        if control.health_port:
            self.abilities |= {Ability.HEALTH}
        if may_restart:
            self.abilities |= {Ability.PROCESS}
        if events is not None:
            self.abilities |= {Ability.ALERTS}
        self._start_s = start_s
        self._inside = inside
        self.owned = contextlib.ExitStack()
        """What is closed with this door."""
        self._came_up = False
        nodes = (*place.nodes, place.stranger)
        with inside():
            self._wire = UdpWire(nodes, place.addresses, self.abilities)
        self._events = events

    @contextlib.contextmanager
    def open(self, features: Features, seed: str, tap: Tap | None) -> Iterator[Rig]:
        with self._inside():
            if not (self._came_up and self.control.running):
                self._start()
            self._wire.follow(self._events)
            yield Rig(self._wire, features, seed, tap=tap, control=self.control)

    def close(self) -> None:
        self.control.close()
        self._wire.close()
        self.owned.close()

    def _start(self) -> None:
        if not self.control.running:
            self.control.start()
        rig = Rig(self._wire, Features(), "start", control=self.control)
        problem = rig.comes_up(self._start_s)
        if problem:
            waited = f"within {self._start_s:g} s"
            raise HarnessError(f"{self.description} returned no plain packet {waited}: {problem}")
        self._came_up = True
