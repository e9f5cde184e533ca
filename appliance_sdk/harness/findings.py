"""What AWS lets one build and what does not work then: each mistake, and what one sees of it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

MISTAKES: Mapping[str, str] = MappingProxyType(
    {
        "past_endpoint": "The first packets of a connection go past an endpoint, their answers "
        "through it: an edge route is missing, or a route on one side. The answers are dropped as "
        "`no_entry`.",
        "one_sided": "The first packets pass an endpoint, their answers go past it. AWS supports "
        "it, and advises against it: appliances see one side only. What the other side opens is "
        "dropped as `no_entry`.",
        "zones_apart": "A transit gateway's attachment with endpoints in several zones is not in "
        "appliance mode: between hosts of two zones each direction passes another endpoint, and "
        "the answers are dropped as `no_entry`.",
        "loop": "The table of an endpoint's subnet leads back to the endpoint, since the endpoint "
        "is in the subnet of its hosts or shares their table. The appliance sees the same packet "
        "again and again, until it is dropped as `routing_loop`.",
        "no_way_back": "Packets arrive, and no route leads their answers back: `no_route`.",
        "blackhole": "A VPC's route whose target is gone: `blackhole`.",
        "zone_not_attached": "A subnet's table leads to a transit gateway that is not attached in "
        "the subnet's zone: `zone_not_attached`.",
        "overlap": "Two VPCs of a transit gateway have ranges that overlap. A route leads to one "
        "of them only, and to each other they are `local`. Behind a load balancer it would do no "
        "harm: flows are told apart by their endpoints.",
        "unused_endpoint": "No route leads to an endpoint, so that nothing is inspected.",
        "no_target_in_zone": "A zone has no target, and cross-zone load balancing is off: what its "
        "endpoints take in is dropped as `no_target`, whatever other zones have.",
        "health_port": "Targets are asked for their health on port 6081. GENEVE is UDP: over TCP "
        "nobody is there, and they stay unhealthy.",
        "mtu": "A host sends packets over 8,500 bytes, such as EC2's default of 9,001. They are "
        "dropped as `too_big`, and no ICMP error tells the host.",
        "stickiness": "Stickiness by addresses behind a transit gateway in appliance mode, which "
        "AWS does not support: the transit gateway deals flows to zones by their ports too.",
    }
)
"""Every mistake that a diagnosis can find, with what happens then."""


class Finding(NamedTuple):
    """One mistake in a topology."""

    mistake: str
    """One of `MISTAKES`."""
    key: str
    """The key path of what is to be changed."""
    what: str
    """What will happen to whom."""
    hint: str
    """What to do."""

    def __str__(self) -> str:
        return f"{self.key}: {self.what} ({self.hint}) [{self.mistake}]"
