"""The reference firewall in this process, on a clock of its own, and what it does with traffic."""

from __future__ import annotations

import socket
from typing import Any, NamedTuple, TypeAlias

from seeded_traffic import Sent

from appliance_sdk.conformance.setup import find_setup
from appliance_sdk.dataplane.memory import MemoryPlane
from appliance_sdk.plugin.events import Event
from appliance_sdk.server.eve import eve_record
from reference_appliances.firewall import Firewall

TURN_S = 0.01
"""How much time passes with each turn."""
COUNTERS = ("received", "forwarded", "edited", "injected", "flows_opened", "flows_closed")
Answer: TypeAlias = tuple[int, bytes]
"""The outer port that it left from, which is the one that it answers, and the payload."""


class Played(NamedTuple):
    """What was observed."""

    answers: list[list[Answer]]
    """To each turn."""
    events: list[dict[str, Any]]
    """EVE records."""
    counters: dict[str, Any]


class Firewalled:
    """An engine with the reference firewall, whose clock is `now`."""

    def __init__(self, node: str) -> None:
        setup = find_setup(Firewall)
        assert setup is not None
        self.now = 0.0
        self._events: list[dict[str, Any]] = []
        appliance = setup.instance(Firewall)
        self.engine = appliance.start(self.now, self._emit, origins=(f"{node}/32",))

    def _emit(self, event: Event) -> None:
        self._events.append(eve_record(event))

    def played(self, answers: list[list[Answer]]) -> Played:
        """The end of it: every flow is closed."""
        engine = self.engine
        engine.close(self.now)
        numbers = {name: getattr(engine, name) for name in COUNTERS}
        names = {"dropped": dict(engine.drops), "metrics": dict(engine.metrics)}
        return Played(answers, self._events, {**numbers, **names})


def in_memory(turns: list[list[Sent]], node: str, address: str) -> Played:
    """Play traffic by function calls."""
    made = Firewalled(node)
    plane = MemoryPlane(made.engine)
    local, peer = socket.inet_aton(address), socket.inet_aton(node)
    answers: list[list[Answer]] = []
    for turn in turns:
        answers.append([])
        for port, payload in turn:
            for sent in plane.deliver(payload, port.to_bytes(2, "big") + peer, local, made.now):
                assert (sent.local, sent.peer[2:]) == (local, peer)
                answers[-1].append((int.from_bytes(sent.peer[:2], "big"), sent.payload))
        made.now += TURN_S
        assert plane.advance(made.now) == []
    plane.close()
    return made.played(answers)
