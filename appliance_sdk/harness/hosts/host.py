"""A simulated host: TCP, UDP and ICMP over packets in and packets out, in virtual time."""

from __future__ import annotations

import dataclasses
import ipaddress
import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

from appliance_sdk.harness.hosts.apps import App
from appliance_sdk.harness.hosts.icmp import Notice, build_port_unreachable
from appliance_sdk.harness.hosts.ports import Listener, check_port, choose_port
from appliance_sdk.harness.hosts.stack import Stack
from appliance_sdk.harness.hosts.tcp import TcpConnection
from appliance_sdk.harness.hosts.tcp_types import Segment, TcpSettings, TcpState, read_segment
from appliance_sdk.harness.hosts.timers import Timer, Timers
from appliance_sdk.harness.hosts.udp import Datagram, UdpSocket
from appliance_sdk.wire import Headers, build_tcp_rst, build_udp
from appliance_sdk.wire.packet import ACK, FIN, RST, SYN, TCP, UDP

Key: TypeAlias = tuple[bytes, bytes, int, int]


class Host(Stack):
    """A host with addresses on a network that someone else carries packets for.

    Give it what arrives (`receive`), take what it sends (`outbox`), and call `advance` when
    `next_deadline` has come; times are seconds on any clock that does not go back. Nothing that
    arrives makes it raise, though what an app or a handler raises comes through. The same seed and
    the same calls send the same bytes.
    """

    def __init__(
        self,
        name: str,
        addresses: Sequence[str],
        *,
        seed: int,
        mtu: int = 1500,
        tcp: TcpSettings | None = None,
        max_connections: int = 4096,
    ) -> None:
        super().__init__(name, addresses, seed=seed, mtu=mtu)
        self.tcp = tcp or TcpSettings()
        """How its connections behave; new ones take it from here."""
        self.max_connections = max_connections
        """More are not accepted, half-open ones included; 4,096 is what a SYN flood may cost."""
        self._connections: dict[Key, TcpConnection] = {}
        self._listeners: dict[int, Listener] = {}
        self._sockets: dict[int, UdpSocket] = {}
        self._timers: Timers[TcpConnection | Timer] = Timers()

    @property
    def connections(self) -> tuple[TcpConnection, ...]:
        """The TCP connections that are not CLOSED, oldest first."""
        return tuple(self._connections.values())

    @property
    def waiting(self) -> bool:
        """One of its connections waits for an acknowledgement, and will send again."""
        return any(conn.waiting for conn in self._connections.values())

    def receive(self, packet: bytes, now: float) -> None:
        """Take a packet from the network; what does not concern the host is counted."""
        self._take(packet, now)
        self.advance(now)

    def next_deadline(self) -> float:
        """When `advance` has something to do, math.inf if never."""
        return self._timers.next_deadline()

    def advance(self, now: float) -> None:
        """Run what is due, and send what was asked for since the last call."""
        while (due := self._timers.take_due(now)) is not None:
            if isinstance(due, Timer):
                due.run(now)
            else:
                due.advance(now)
                self._settle(due)

    def connect(
        self, address: str, port: int, now: float, *, source_port: int = 0, app: App | None = None
    ) -> TcpConnection:
        """Open a TCP connection: the SYN is in the outbox. Without an app, the caller uses `send`,
        `received` and `close`. Raises ValueError for what the host cannot do."""
        source, target = self._route(address)
        check_port(port)
        if source_port:
            check_port(source_port)
            if (source, target, source_port, port) in self._connections:
                raise ValueError(f"{self.name} uses port {source_port} for {address} already")
        else:
            source_port = choose_port(
                self.random, lambda p: (source, target, p, port) in self._connections
            )
        if len(self._connections) >= self.max_connections:
            raise ValueError(f"{self.name} has {self.max_connections} connections: end some")
        conn = self._new_connection((source, target, source_port, port), app)
        conn.open(now)
        self._settle(conn)
        return conn

    def listen(self, port: int, app_factory: Callable[[], App]) -> Listener:
        """Take TCP connections on a port of every address; the factory is called for each. Raises
        ValueError if the port is taken."""
        check_port(port)
        if port in self._listeners:
            raise ValueError(f"{self.name} listens on TCP port {port} already")
        listener = self._listeners[port] = Listener(port, app_factory, self._close_listener)
        return listener

    def udp(
        self, port: int = 0, handler: Callable[[UdpSocket, Datagram], None] | None = None
    ) -> UdpSocket:
        """Open a UDP port, any free one for 0; the handler is called with each datagram. Raises
        ValueError if the port is taken."""
        if port:
            check_port(port)
            if port in self._sockets:
                raise ValueError(f"{self.name} uses UDP port {port} already")
        else:
            port = choose_port(self.random, lambda p: p in self._sockets)
        socket = self._sockets[port] = UdpSocket(self, port)
        socket.handler = handler
        return socket

    def call_at(self, when: float, call: Callable[[float], None]) -> Timer:
        """Have `advance` call `call(now)` once from `when` on; the timer can be cancelled."""
        timer = Timer(call, lambda timer: self._timers.set(timer, math.inf))
        self._timers.set(timer, when)
        return timer

    def send_datagram(
        self, source_port: int, address: str, port: int, data: bytes, source: str = ""
    ) -> None:
        """What `UdpSocket.send_to` does. Raises ValueError."""
        check_port(port)
        if len(data) > 65_507:
            raise ValueError(f"a datagram has at most 65,507 bytes, not {len(data):,}")
        self._send(build_udp(*self._route(address, source), source_port, port, payload=data))

    def close_udp(self, socket: UdpSocket) -> None:
        """What `UdpSocket.close` does."""
        if self._sockets.get(socket.port) is socket:
            del self._sockets[socket.port]

    def _close_listener(self, listener: Listener) -> None:
        if self._listeners.get(listener.port) is listener:
            del self._listeners[listener.port]

    def _take_tcp(self, packet: bytes, headers: Headers, now: float) -> None:
        key = headers.destination, headers.source, headers.destination_port, headers.source_port
        conn = self._connections.get(key)
        listener = self._listeners.get(headers.destination_port)
        segment = read_segment(packet, headers)
        opens = headers.flags & (SYN | ACK | RST | FIN) == SYN and listener is not None
        if conn is not None and opens and conn.replaceable_by(segment):
            conn.forget()
            self._settle(conn)
            conn = None
        if conn is not None:
            conn.receive(segment, now)
            self._settle(conn)
        elif opens and listener is not None:
            self._accept(key, segment, listener, now)
        else:
            reset = build_tcp_rst(packet, 0, headers)
            if reset is not None:
                self._send(reset)

    def _accept(self, key: Key, syn: Segment, listener: Listener, now: float) -> None:
        if len(self._connections) >= self.max_connections:
            self.dropped["no_room"] += 1
            return
        conn = self._new_connection(key, listener.app_factory())
        listener.connections.append(conn)
        conn.accept(syn, now)
        self._settle(conn)

    def _take_udp(self, packet: bytes, headers: Headers, now: float) -> None:
        socket = self._sockets.get(headers.destination_port)
        if socket is None:
            error = build_port_unreachable(packet, headers)
            if error is not None:
                self._send(error)
            return
        length = int.from_bytes(packet[headers.transport + 4 : headers.transport + 6], "big")
        data = packet[headers.payload : headers.transport + length]
        source, to = _text(headers.source), _text(headers.destination)
        socket.deliver(Datagram(source, headers.source_port, data, to, now))

    def _take_transport_notice(self, notice: Notice) -> bool:
        if notice.protocol == UDP and notice.source_port in self._sockets:
            if not notice.mtu:
                self._sockets[notice.source_port].notice(notice)
            return True
        conn = self._connections.get(notice[4:8])
        if notice.protocol != TCP or conn is None:
            return False
        if not conn.concerns(notice.number):
            return False
        if notice.mtu:
            conn.limit_mss(notice.mtu - (40 if len(notice.source) == 4 else 60))
        else:
            conn.unreachable(notice.kind, notice.code)
        self._settle(conn)
        return True

    def _new_connection(self, key: Key, app: App | None) -> TcpConnection:
        room = self.mtu - (40 if len(key[0]) == 4 else 60)
        settings = dataclasses.replace(self.tcp, mss=min(self.tcp.mss, room))
        conn = self._connections[key] = TcpConnection(
            key,
            first=self.random.getrandbits(32),
            settings=settings,
            transmit=self._send,
            wake=self._settle,
            app=app,
        )
        return conn

    def _settle(self, conn: TcpConnection) -> None:
        """Note when a connection is due next, or that it is no more."""
        self._timers.set(conn, conn.next_deadline())
        if conn.state is TcpState.CLOSED and self._connections.get(conn.key) is conn:
            del self._connections[conn.key]


def _text(address: bytes) -> str:
    return str(ipaddress.ip_address(address))
