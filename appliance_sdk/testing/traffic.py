"""Flows between the hosts of a harness, opened and fed from a test, a line each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from appliance_sdk.errors import HarnessError

if TYPE_CHECKING:
    from appliance_sdk.harness import Harness
    from appliance_sdk.harness.hosts import Host, Ping, TcpConnection, UdpSocket

WAIT_S = 60.0
"""How long a step may take, on the harness's clock: longer than TCP's patience with silence."""


class FlowFactory:
    """Makes flows through the harness, each already opened, from `client` to `server`.

    Both are names of hosts, of which either may be inside: `client="server", server="client"` is
    outbound. With `ipv6` the hosts' IPv6 addresses are used.
    """

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self._accepted: dict[tuple[str, int], list[_End]] = {}
        self._bound: dict[tuple[str, int], UdpSocket] = {}

    def tcp(
        self,
        port: int,
        *,
        client: str = "client",
        server: str = "server",
        ipv6: bool = False,
    ) -> TcpFlow:
        """A TCP connection; whether it came about stands in its `opened`."""
        return TcpFlow(self, *self._ends(client, server, ipv6), port)

    def udp(
        self,
        port: int,
        *,
        client: str = "client",
        server: str = "server",
        ipv6: bool = False,
    ) -> UdpFlow:
        """Two UDP sockets that know each other."""
        return UdpFlow(self, *self._ends(client, server, ipv6), port)

    def ping(self, *, client: str = "client", server: str = "server", ipv6: bool = False) -> Ping:
        """An ICMP echo request and what came of it."""
        host, _, address = self._ends(client, server, ipv6)
        ping = host.ping(address, self.harness.now)
        self.harness.run(lambda: ping.replies > 0 or ping.unreachable, timeout_s=5)
        return ping

    def accepting(self, server: Host, port: int) -> list[_End]:
        """The connections that a server's port has taken; it listens from now on."""
        place = server.name, port
        if place not in self._accepted:
            accepted = self._accepted[place] = []

            def accept() -> _End:
                end = _End()
                accepted.append(end)
                return end

            server.listen(port, accept)
        return self._accepted[place]

    def bound(self, server: Host, port: int) -> UdpSocket:
        """A server's UDP port."""
        place = server.name, port
        if place not in self._bound:
            self._bound[place] = server.udp(port)
        return self._bound[place]

    def _ends(self, client: str, server: str, ipv6: bool) -> tuple[Host, Host, str]:
        hosts = self.harness.hosts
        for name in (client, server):
            if name not in hosts:
                raise HarnessError(f"no host {name!r}; known: {', '.join(hosts)}")
        return hosts[client], hosts[server], self._address(client, server, ipv6)

    def _address(self, client: str, server: str, ipv6: bool) -> str:
        """The address under which the client knows the server."""
        here, there = (self.harness.topology.hosts[name] for name in (client, server))
        if there.public and here.vpc != there.vpc and not ipv6:
            return there.public
        for address in there.addresses:
            if (":" in address) is ipv6:
                return address
        raise HarnessError(f"host {server} has no IPv{6 if ipv6 else 4} address")


class _End:
    """The app at either end of a flow: says what it is told, and remembers what it got."""

    def __init__(self) -> None:
        self.opened_once = False
        self.connection: TcpConnection | None = None

    def opened(self, conn: TcpConnection, now: float) -> None:
        self.opened_once = True
        self.connection = conn

    def data(self, conn: TcpConnection, data: bytes, now: float) -> None:
        """`conn.received` has it."""

    def ended(self, conn: TcpConnection, now: float) -> None:
        """`conn.ended` says how."""


class TcpFlow:
    """A TCP connection between two hosts, with the words of `Bench`.

    Each verb lets the harness run until what it does has arrived, or can be seen not to.
    """

    def __init__(
        self, factory: FlowFactory, client: Host, server: Host, address: str, port: int
    ) -> None:
        self._harness = factory.harness
        accepted = factory.accepting(server, port)
        before = len(accepted)
        self._end = _End()
        self.client = client.connect(address, port, self._harness.now, app=self._end)
        """The client's end."""
        self.server: TcpConnection | None = None
        """The server's end, None if no connection got through to it."""
        self._wait(lambda: self.opened and any(end.connection for end in accepted[before:]))
        for end in accepted[before:]:
            self.server = end.connection

    @property
    def opened(self) -> bool:
        """The handshake was completed."""
        return self._end.opened_once

    @property
    def reset(self) -> bool:
        """The client was told that it is over: by RST, or by ICMP while it opened."""
        return self.client.ended in ("reset", "unreachable")

    @property
    def blocked(self) -> bool:
        """The client waits in vain: what it sent was neither answered nor refused."""
        return self.client.ended == "timeout"

    @property
    def client_received(self) -> bytes:
        """What reached the client."""
        return self.client.received

    @property
    def server_received(self) -> bytes:
        """What reached the server."""
        return self.server.received if self.server is not None else b""

    def client_sends(self, data: bytes) -> bool:
        """Stream bytes to the server; whether all of them were acknowledged."""
        return self._send(self.client, data)

    def server_sends(self, data: bytes) -> bool:
        """Stream bytes to the client; whether all of them were acknowledged."""
        return self.server is not None and self._send(self.server, data)

    def close(self) -> bool:
        """FIN both ways, client first; whether both ends saw it closed."""
        self.client.close()
        server = self.server
        if server is None:
            return False
        self._wait(lambda: server.peer_closed or bool(server.ended))
        server.close()
        self._harness.run(lambda: bool(self.client.ended and server.ended), WAIT_S)
        return self.client.ended == "closed" == server.ended

    def _send(self, end: TcpConnection, data: bytes) -> bool:
        target = end.acked + len(data)
        end.send(data)
        return self._wait(lambda: end.acked >= target) and end.acked >= target

    def _wait(self, until: Callable[[], bool]) -> bool:
        return self._harness.run(lambda: until() or bool(self.client.ended), WAIT_S)


class UdpFlow:
    """Two UDP sockets that know each other; a datagram that does not arrive is waited for a while.

    How long is `patience_s`, on the harness's clock.
    """

    patience_s = 1.0

    def __init__(
        self, factory: FlowFactory, client: Host, server: Host, address: str, port: int
    ) -> None:
        self._harness = factory.harness
        self._address = address
        self._port = port
        self.client = client.udp()
        """The client's socket."""
        self.server = factory.bound(server, port)
        """The server's socket."""
        self._seen = len(self.server.received)

    @property
    def client_received(self) -> list[bytes]:
        """The datagrams that reached the client."""
        return [datagram.data for datagram in self.client.received]

    @property
    def server_received(self) -> list[bytes]:
        """The datagrams that reached the server."""
        return [datagram.data for datagram in self.server.received[self._seen :]]

    @property
    def unreachable(self) -> bool:
        """The client was told that nobody is there, or that it may not."""
        return self.client.unreachable

    def client_sends(self, data: bytes) -> bool:
        """One datagram to the server; whether it arrived."""
        before = len(self.server.received)
        self.client.send_to(self._address, self._port, data)
        self._wait(lambda: len(self.server.received) > before or self.client.unreachable)
        return len(self.server.received) > before

    def server_sends(self, data: bytes) -> bool:
        """An answer to the client's last datagram; whether it arrived. Raises HarnessError."""
        if len(self.server.received) <= self._seen:
            raise HarnessError("the server does not know the client: nothing of it has arrived")
        before = len(self.client.received)
        self.server.reply(self.server.received[-1], data)
        self._wait(lambda: len(self.client.received) > before)
        return len(self.client.received) > before

    def _wait(self, until: Callable[[], bool]) -> None:
        self._harness.run(until, self.patience_s)
