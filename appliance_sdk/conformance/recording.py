"""A rig that no appliance stands behind: it notes what a case sends, and what must come of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from appliance_sdk.conformance.compare import Reply
from appliance_sdk.conformance.conversation import Datagram
from appliance_sdk.conformance.features import Features
from appliance_sdk.conformance.rig import PATIENCE_S, Rig
from appliance_sdk.conformance.wires import MemoryWire
from appliance_sdk.dataplane.memory import Datagram as Sent
from appliance_sdk.server.eve import eve_record

MOST_STEPS = 200
"""A case with more datagrams is one for a program that makes them, not for a file."""

Expect = Literal["returned", "returned-with-ttl", "not-returned", "silent", "any"]


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """A datagram to the appliance, and what must come of it."""

    node: str
    """The load balancer's address that it comes from, IPv4."""
    port: int
    """Its UDP source port."""
    address: str
    """The appliance's address that it goes to; the UDP port is 6081."""
    payload: str
    """GENEVE header and inner packet, hexadecimal."""
    expect: Expect
    """`returned`: exactly one datagram, with the same payload, from `address` and `port` to `node`
    and 6081; the TTL of the inner packet may be one less. `returned-with-ttl`: it may not.
    `not-returned`: nothing comes with this inner packet; others may, such as a reset. `silent`:
    nothing at all. `any`: the requirement says what is allowed; nothing crashes."""
    wait_s: float = 0.0
    """Seconds that pass on the appliance's clock before this datagram."""


class LeftOut(Exception):
    """A case that is no vector; the message says why."""


class Recorder(Rig):
    """Every packet that should come back does, as from an appliance that forwards everything."""

    def __init__(self, features: Features, seed: str) -> None:
        super().__init__(MemoryWire(_Echo(), [], eve_record), features, seed)
        self.steps: list[Step] = []
        self._waited_s = 0.0

    def send(self, datagram: Datagram) -> None:
        super().send(datagram)
        self._note(datagram, "any")

    def comes_back(
        self, datagram: Datagram, *, ttl_may_fall: bool = True, patience_s: float = PATIENCE_S
    ) -> None:
        super().comes_back(datagram, ttl_may_fall=ttl_may_fall, patience_s=patience_s)
        sent = self._step(datagram, "any")
        expect: Expect = "returned" if ttl_may_fall else "returned-with-ttl"
        for at in range(len(self.steps) - 1, -1, -1):
            if msgspec.structs.replace(self.steps[at], wait_s=0.0) == sent:
                self.steps[at] = msgspec.structs.replace(self.steps[at], expect=expect)
                return

    def refused(self, *datagrams: Datagram) -> list[Reply]:
        for datagram in datagrams:
            self._note(datagram, "not-returned")
        return []

    def silence(self, *datagrams: Datagram) -> None:
        for datagram in datagrams:
            self._note(datagram, "silent")

    def alive(self, patience_s: float = PATIENCE_S) -> None:
        self._receive(0.0)

    def advance(self, seconds: float) -> None:
        self._waited_s += seconds

    def _note(self, datagram: Datagram, expect: Expect) -> None:
        if len(self.steps) == MOST_STEPS:
            raise LeftOut(f"more than {MOST_STEPS} datagrams: too many for a file")
        self.steps.append(self._step(datagram, expect, self._waited_s))
        self._waited_s = 0.0

    def _step(self, datagram: Datagram, expect: Expect, wait_s: float = 0.0) -> Step:
        return Step(
            self.wire.nodes[datagram.node],
            datagram.source_port,
            self.wire.addresses[datagram.address],
            datagram.payload.hex(),
            expect,
            wait_s,
        )


class _Echo:
    """Forwards everything."""

    def deliver(self, payload: bytes, peer: bytes, local: bytes, now: float) -> Sequence[Sent]:
        return [Sent(peer, local, payload)]

    def advance(self, now: float) -> Sequence[Sent]:
        return ()

    def next_deadline(self) -> float:
        return math.inf
