"""A UDP port of a host."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from appliance_sdk.harness.hosts.icmp import Notice

if TYPE_CHECKING:
    from appliance_sdk.harness.hosts.host import Host

MAX_KEPT = 10_000


class Datagram(NamedTuple):
    """One datagram that arrived."""

    address: str
    """Who sent it."""
    port: int
    data: bytes
    to: str
    """Which of the host's addresses it was sent to."""
    at: float
    """When it arrived."""


class UdpSocket:
    """A UDP port; `Host.udp` makes them. What it sends is in the host's outbox at once."""

    def __init__(self, host: Host, port: int) -> None:
        self._host = host
        self.port = port
        """The port that datagrams are sent from and received on."""
        self.received: list[Datagram] = []
        """What arrived, oldest first; clear it as you like. After 10,000 nothing more is kept."""
        self.handler: Callable[[UdpSocket, Datagram], None] | None = None
        """Called with each datagram, for servers: answer with `reply`."""
        self.icmp_error: tuple[int, int] | None = None
        """Type and code of the last ICMP error about something sent from here."""

    @property
    def unreachable(self) -> bool:
        """Something sent from here was answered with ICMP unreachable."""
        return self.icmp_error is not None

    def send_to(self, address: str, port: int, data: bytes, *, source: str = "") -> None:
        """Send one datagram, in fragments if it is larger than the host's MTU.

        Raises ValueError for an address that the host cannot reach with any of its own, a port
        outside 1 to 65,535, or more than 65,507 bytes.
        """
        self._host.send_datagram(self.port, address, port, data, source)

    def reply(self, datagram: Datagram, data: bytes) -> None:
        """Answer a datagram, from the address that it was sent to."""
        if datagram.port:
            self.send_to(datagram.address, datagram.port, data, source=datagram.to)

    def close(self) -> None:
        """Give the port back; datagrams to it are then answered with port unreachable."""
        self._host.close_udp(self)

    def deliver(self, datagram: Datagram) -> None:
        """Take a datagram; the host does this."""
        if len(self.received) < MAX_KEPT:
            self.received.append(datagram)
        if self.handler is not None:
            self.handler(self, datagram)

    def notice(self, notice: Notice) -> None:
        """Take an ICMP error; the host does this."""
        self.icmp_error = (notice.kind, notice.code)
