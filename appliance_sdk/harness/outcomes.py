"""What becomes of a packet at a load balancer."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from appliance_sdk.harness.reasons import REASONS
from appliance_sdk.harness.states import Target

Place: TypeAlias = tuple[str, int]
"""IPv4 address and UDP port."""


class ToTarget(NamedTuple):
    """A datagram for an appliance: from `node` and `source_port` to the target, port 6081."""

    target: Target
    node: str
    source_port: int
    payload: bytes
    cookie: int


class ToEndpoint(NamedTuple):
    """An inner packet that leaves through an endpoint; routing takes it on from there."""

    endpoint: str
    packet: bytes
    by: str
    """The target that returned it, "" for a reset that GWLB made itself."""


class Dropped(NamedTuple):
    """A packet that ends here."""

    reason: str
    """One of `REASONS`."""
    detail: str
    """What was expected and what came, "" where the reason says all."""
    packet: bytes

    @property
    def meaning(self) -> str:
        """What the reason means and what to do about it."""
        return REASONS[self.reason].meaning

    @property
    def source(self) -> str:
        """Who says so: a page of AWS, an RFC, an observation, or nobody and which switch it is."""
        return REASONS[self.reason].source

    @property
    def explanation(self) -> str:
        """Both."""
        return str(REASONS[self.reason])


Outcome: TypeAlias = ToTarget | ToEndpoint | Dropped
