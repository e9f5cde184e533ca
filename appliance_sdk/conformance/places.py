"""Where load balancer and appliance stand: on loopback together, or in a namespace each."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from appliance_sdk.harness import free_loopback
from appliance_sdk.harness.namespaces import Namespace

MTU_BYTES = 9001
"""What an EC2 instance has within a VPC: more than 8,500 and 68 bytes of encapsulation."""
_ROUTER = "10.9.1.1"


class Place(msgspec.Struct, frozen=True):
    """Which addresses load balancer and appliance have, all IPv4.

    `origins` is the range of the load balancer's nodes; `stranger` is outside of it.
    """

    nodes: tuple[str, str]
    stranger: str
    origins: str
    addresses: tuple[str, str]

    @classmethod
    def on_loopback(cls) -> Place:
        """Addresses that nobody else uses. Raises HarnessError if there are none."""
        net = free_loopback()
        return cls(
            (f"{net}.0.11", f"{net}.0.12"),
            f"{net}.8.11",
            f"{net}.0.0/24",
            (f"{net}.1.21", f"{net}.1.22"),
        )


_APART = Place(
    nodes=("10.9.0.11", "10.9.0.12"),
    stranger="10.8.0.11",
    origins="10.9.0.0/24",
    addresses=("10.9.1.21", "10.9.1.22"),
)


class Ground(Protocol):
    """What a load balancer and an appliance that the suite starts stand on."""

    place: Place
    device: str
    """The network device of the appliance's addresses."""

    def balancer(self) -> AbstractContextManager[None]:
        """Inside, sockets and processes belong to the load balancer's side."""

    def appliance(self) -> AbstractContextManager[None]:
        """Inside, they belong to the appliance's."""

    def close(self) -> None:
        """Take it away."""


class Together:
    """Both on loopback, with addresses that nobody else uses. Raises HarnessError."""

    device = "lo"

    def __init__(self) -> None:
        self.place = Place.on_loopback()

    def balancer(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def appliance(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def close(self) -> None:
        return


class Apart:
    """Two namespaces, made for one appliance; nothing of the machine's own is touched.

    The appliance has one device with two addresses in a subnet of its own, and a default route to
    the other end of the cable, where the load balancer's nodes are. Raises HarnessError if they
    may not be made.
    """

    place = _APART
    device = "eth0"

    def __init__(self) -> None:
        with contextlib.ExitStack() as undo:
            self._near = undo.enter_context(contextlib.closing(Namespace()))
            self._far = undo.enter_context(contextlib.closing(Namespace()))
            self._build()
            self._owned = undo.pop_all()

    def balancer(self) -> AbstractContextManager[None]:
        return self._near.entered()

    def appliance(self) -> AbstractContextManager[None]:
        return self._far.entered()

    def close(self) -> None:
        """End what still runs in them, and have the kernel take them away."""
        self._owned.close()

    def _build(self) -> None:
        self._far.join(self.device, self._near, "gwlb0", mtu_bytes=MTU_BYTES)
        self._near.complete_checksums("gwlb0")
        nodes = [*self.place.nodes, self.place.stranger]
        self._near.ip(
            "link set gwlb0 up",
            f"addr add {_ROUTER}/24 dev gwlb0",
            *(f"addr add {node}/32 dev lo" for node in nodes),
        )
        self._far.ip(
            f"link set {self.device} up",
            *(f"addr add {address}/24 dev {self.device}" for address in self.place.addresses),
            f"route add default via {_ROUTER}",
        )
