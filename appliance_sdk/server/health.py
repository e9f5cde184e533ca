"""The responder to GWLB's health checks, HTTP or TCP: one kind a port."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

import h11

from appliance_sdk.errors import ConfigError
from appliance_sdk.server.config import Health

_TIMEOUT_S = 5.0
"""GWLB waits no longer for an answer (its default), so neither does this for a question."""
_MAX_CONNECTIONS = 512
_MAX_REQUEST_BYTES = 16 * 1024


class HealthState(NamedTuple):
    """What checks see. `name` is starting, ready, degraded or draining."""

    name: str
    reasons: tuple[str, ...] = ()
    healthy: bool = False
    """Whether checks succeed: when ready, and when degraded by losses alone."""


class _Visitors:
    """Who is connected. When there are too many, the one that was here longest has to go.

    A check says its sentence at once; to turn newcomers away would let idle connections starve it.
    """

    def __init__(self) -> None:
        self._here: dict[asyncio.StreamWriter, None] = {}
        self._others = len(os.listdir("/proc/self/fd"))

    def enter(self, writer: asyncio.StreamWriter) -> None:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        room = max((limit - self._others) // 2, 1)  # the rest is for those that come at once
        while len(self._here) >= min(room, _MAX_CONNECTIONS):
            longest = next(iter(self._here))
            del self._here[longest]
            longest.transport.abort()
        self._here[writer] = None

    def leave(self, writer: asyncio.StreamWriter) -> None:
        self._here.pop(writer, None)
        writer.close()


class HttpHealth:
    """Answers any path: 200 when healthy, else 503; with `?verbose`, details as JSON."""

    def __init__(
        self, sock: socket.socket, state: Callable[[], HealthState], details: Callable[[], Any]
    ) -> None:
        self._sock = sock
        self._state = state
        self._details = details
        self._visitors = _Visitors()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Begin to answer."""
        self._server = await asyncio.start_server(self._serve, sock=self._sock, backlog=1024)

    async def update(self, state: HealthState) -> None:
        """The state changed; HTTP says it with the next answer."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._visitors.enter(writer)
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await self._converse(reader, writer)
        except (TimeoutError, ConnectionError):
            return  # a check that hangs up or says nothing: theirs to count, not ours
        finally:
            self._visitors.leave(writer)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_REQUEST_BYTES)
        try:
            request = await self._request(http, reader)
        except h11.RemoteProtocolError:
            self._answer(http, writer, 400, b"bad request\n", "text/plain")
            await writer.drain()
            return
        if request is None:
            return
        state = self._state()
        status = 200 if state.healthy else 503
        query = bytes(request.target).partition(b"?")[2]
        if b"verbose" in query.split(b"&"):
            body = json.dumps(self._details(), indent=2, default=str).encode() + b"\n"
            kind = "application/json"
        else:
            body, kind = f"{state.name}\n".encode(), "text/plain"
        if request.method not in (b"GET", b"HEAD"):
            status, body, kind = 405, b"GET or HEAD\n", "text/plain"
        self._answer(http, writer, status, body, kind, head=request.method == b"HEAD")
        await writer.drain()

    async def _request(
        self, http: h11.Connection, reader: asyncio.StreamReader
    ) -> h11.Request | None:
        while True:
            event = http.next_event()
            if isinstance(event, h11.Request):
                return event
            if event is h11.NEED_DATA:
                data = await reader.read(4096)
                if not data and http.trailing_data[0] == b"":
                    return None
                http.receive_data(data)
            else:
                return None

    def _answer(
        self,
        http: h11.Connection,
        writer: asyncio.StreamWriter,
        status: int,
        body: bytes,
        kind: str,
        *,
        head: bool = False,
    ) -> None:
        headers = [
            ("content-type", kind),
            ("content-length", str(len(body))),
            ("cache-control", "no-store"),
            ("connection", "close"),
        ]
        reason = {200: b"OK", 400: b"Bad Request", 405: b"Method Not Allowed"}
        phrase = reason.get(status, b"Service Unavailable")
        response = h11.Response(status_code=status, headers=headers, reason=phrase)
        writer.write(http.send(response) or b"")
        if not head:
            writer.write(http.send(h11.Data(data=body)) or b"")
            writer.write(http.send(h11.EndOfMessage()) or b"")


class TcpHealth:
    """Accepts connections while healthy; the port is closed while not."""

    def __init__(self, address: str, port: int) -> None:
        self._address = address
        self._port = port
        self._visitors = _Visitors()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Nothing yet: the port opens with the first healthy state."""

    async def update(self, state: HealthState) -> None:
        """Open or close the port. OSError: someone else has it."""
        if state.healthy and self._server is None:
            self._server = await asyncio.start_server(
                self._serve, self._address, self._port, reuse_address=True, backlog=1024
            )
        elif not state.healthy and self._server is not None:
            server, self._server = self._server, None
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._visitors.enter(writer)
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await reader.read(1)
        except (TimeoutError, ConnectionError):
            return
        finally:
            self._visitors.leave(writer)


def open_health_socket(health: Health) -> socket.socket | None:
    """The listening socket for HTTP checks; for TCP checks only a try whether the port is free.

    Raises ConfigError.
    """
    if not health.enabled:
        return None
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    where = f"TCP {health.address}:{health.port}"
    try:
        sock.bind((health.address, health.port))
        sock.listen(1024)
    except PermissionError:
        sock.close()
        hint = "ports below 1024 need privileges: set [health] port = 8080, and the target group's"
        raise ConfigError(f"{where} is not permitted", key="health.port", hint=hint) from None
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRNOTAVAIL:
            message = f"{health.address} is not an address of this machine"
            hint = "the machine's addresses: ip -4 -brief address"
            raise ConfigError(message, key="health.address", hint=hint) from None
        hint = f"who has it: ss -ltnp 'sport = :{health.port}'; or set another [health] port"
        raise ConfigError(f"{where}: {error.strerror}", key="health.port", hint=hint) from None
    if health.kind == "tcp":
        sock.close()
        return None
    sock.setblocking(False)
    return sock
