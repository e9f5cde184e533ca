"""A zone of a load balancer and the endpoints in it, with what is counted for each packet there."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from appliance_sdk.harness.flow_entry import FlowEntry, Key


class Zone:
    """An availability zone in which a load balancer has a node."""

    __slots__ = (
        "active",
        "bytes",
        "failed",
        "former_nodes",
        "name",
        "new_flows",
        "node",
        "packets",
        "resets",
    )

    def __init__(self, name: str, node: str, failed: set[str]) -> None:
        self.name = name
        self.node = node
        """The IPv4 address that packets come from."""
        self.former_nodes: list[str] = []
        """Addresses that were replaced."""
        self.failed = failed
        """Targets, by name, that are unhealthy or gone in the eyes of this node."""
        self.active = 0
        """Live flows."""
        self.new_flows = 0
        self.packets = 0
        """To and from targets."""
        self.bytes = 0
        """The inner packets', to and from targets."""
        self.resets = 0
        """TCP resets that the load balancer made itself."""


class Attachment:
    """An endpoint of the load balancer, with the flows that came through it."""

    __slots__ = ("cookies", "endpoint", "flows", "number", "packed", "zone")

    def __init__(self, endpoint: str, number: int, zone: Zone) -> None:
        self.endpoint = endpoint
        """Its name, "vpce-0a1b2c3d4e5f60718"."""
        self.number = number
        """The same, as GENEVE carries it."""
        self.packed = number.to_bytes(8, "big")
        self.zone = zone
        self.flows: dict[Key, FlowEntry] = {}
        """Each flow under both of its keys: one look-up whatever the direction."""
        self.cookies: dict[int, FlowEntry] = {}
        """By flow cookie; one of them, if several flows share it."""
