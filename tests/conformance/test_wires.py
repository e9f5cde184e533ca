"""An appliance in memory: it may answer at once or later, from wherever it likes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from appliance_sdk.conformance.case import NotConformant, Profile, all_cases
from appliance_sdk.conformance.compare import Reply
from appliance_sdk.conformance.doors import MemoryDoor
from appliance_sdk.conformance.features import Features
from appliance_sdk.conformance.outcome import Outcome
from appliance_sdk.conformance.rig import Rig
from appliance_sdk.conformance.runner import run_cases
from appliance_sdk.conformance.wires import MemoryWire
from appliance_sdk.dataplane.memory import Datagram as Sent


class Later:
    """Gives every packet back after a while, from a port that may be another."""

    def __init__(self, after_s: float, *, from_port: int = 0) -> None:
        self.after_s = after_s
        self.from_port = from_port
        self.held: list[tuple[float, Sent | Reply]] = []

    def deliver(self, payload: bytes, peer: bytes, local: bytes, now: float) -> list[Sent]:
        reply: Sent | Reply = Sent(peer, local, payload)
        if self.from_port:
            reply = Reply((MemoryWire.addresses[0], self.from_port), ("10.9.0.11", 6081), payload)
        self.held.append((now + self.after_s, reply))
        return []

    def advance(self, now: float) -> Sequence[Sent | Reply]:
        due = [reply for when, reply in self.held if when <= now]
        self.held = [one for one in self.held if one[0] > now]
        return due

    def next_deadline(self) -> float:
        return min((when for when, _ in self.held), default=math.inf)


def rig_of(plane: Later) -> Rig:
    return Rig(MemoryWire(plane, [], lambda event: {}), Features(), "seed")


def test_a_verdict_that_takes_its_time_is_waited_for() -> None:
    rig = rig_of(Later(0.2))
    rig.returned(*rig.tcp().handshake())
    assert rig.wire.now == pytest.approx(0.6)


def test_a_verdict_that_takes_too_long_is_none() -> None:
    rig = rig_of(Later(60.0))
    with pytest.raises(NotConformant, match="not returned"):
        rig.returned(rig.udp().to_server(b"x"))
    assert rig.wire.now == pytest.approx(2.0)


def test_an_appliance_that_decides_later_is_asked_like_any_other() -> None:
    cases = [case for case in all_cases().values() if case.profile is Profile.FLOW]
    results = run_cases(cases, MemoryDoor(lambda emit, now: Later(0.01), "later"), Features())
    assert {one.outcome for one in results} == {Outcome.PASS}


def test_a_reply_that_names_its_own_ports_has_them() -> None:
    rig = rig_of(Later(0.0, from_port=6081))
    with pytest.raises(NotConformant, match="left from UDP port 6081"):
        rig.returned(rig.udp().to_server(b"x"))
