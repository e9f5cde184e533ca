"""What the firewall reports, for the EVE log and for the replay table."""

from __future__ import annotations

import msgspec

from appliance_sdk import Event


class FirewallVerdict(Event):
    """What was decided about a flow. `to_server`: it was about a packet of the client.

    Once for each flow; for flows without a beginning on the wire (all but TCP) once more whenever
    the other end's packets are judged differently.
    """

    action: str
    """ "allow", "block", "reject" or "drop" (the packet only)."""
    reason: str
    rule: str
    to_server: bool = True


class PolicyLoaded(Event):
    """A policy is in force from now on."""

    rules: int
    warnings: list[str] = msgspec.field(default_factory=list)
