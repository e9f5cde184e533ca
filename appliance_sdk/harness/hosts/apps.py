"""What runs on a connection: the protocol every app follows, and four small ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from appliance_sdk.harness.hosts.tcp import TcpConnection


class App(Protocol):
    """Told what happens on its connection, always in this order; it acts through the connection.

    Exactly one `ended` comes, also when the connection never opened; nothing comes after it. What
    an app sends is on its way when the call of the host that led to it returns.
    """

    def opened(self, conn: TcpConnection, now: float) -> None:
        """Both ends agreed to talk."""

    def data(self, conn: TcpConnection, data: bytes, now: float) -> None:
        """The next bytes of the stream; b"" once, when the peer has finished sending."""

    def ended(self, conn: TcpConnection, now: float) -> None:
        """It is over; `conn.ended` says how."""


class Sink:
    """Takes everything in silence and closes after the peer; `conn.received` has what came."""

    def opened(self, conn: TcpConnection, now: float) -> None:
        """Nothing to do."""

    def data(self, conn: TcpConnection, data: bytes, now: float) -> None:
        """Close when the peer has."""
        if not data:
            conn.close()

    def ended(self, conn: TcpConnection, now: float) -> None:
        """Nothing to do."""


class Discard(Sink):
    """The discard service (RFC 863): as Sink, and nothing is kept: for transfers of any size."""

    def opened(self, conn: TcpConnection, now: float) -> None:
        """Keep nothing."""
        conn.keep_bytes = 0


class Echo(Sink):
    """The echo service (RFC 862): sends back what comes and closes after the peer."""

    def data(self, conn: TcpConnection, data: bytes, now: float) -> None:
        """Send it back; a peer that sends without end and reads nothing is reset."""
        super().data(conn, data, now)
        if data and not conn.send(data):
            conn.abort()


class Banner(Sink):
    """A server that speaks first, such as SSH or FTP, and then only listens.

    It has no state, so it is its own factory: `host.listen(22, Banner("SSH-2.0-OpenSSH_9.6"))`.
    """

    def __init__(self, text: str) -> None:
        self._line = text.encode() if text.endswith("\n") else text.encode() + b"\r\n"

    def __call__(self) -> Banner:
        """The app for the next connection."""
        return self

    def opened(self, conn: TcpConnection, now: float) -> None:
        """Say the line."""
        conn.send(self._line)
