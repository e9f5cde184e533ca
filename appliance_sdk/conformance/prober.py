"""Health checks as GWLB makes them, over real TCP, with answers read strictly."""

from __future__ import annotations

import re
import socket
import struct
import time
from collections.abc import Mapping
from typing import NamedTuple

import h11

from appliance_sdk.conformance.case import NotConformant
from appliance_sdk.errors import HarnessError

TIMEOUT_S = 5.0
"""How long GWLB waits for an answer unless it is told otherwise (AWS guide, "Health checks")."""
SHORTEST_TIMEOUT_S = 2.0
"""The least that it can be told."""
TRIES = 2
"""GWLB takes a target out after two failures in a row, if it is told to be as quick as it can."""

_MOST_BYTES = 64 * 1024
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] [1-5][0-9][0-9] [^\r\n]*")
_SYNTAX = "an answer that is not HTTP/1.1: "


class Answer(NamedTuple):
    """What a request was answered."""

    status: int
    body: bytes = b""


class Connection:
    """One TCP connection to a health port, and the time that all of a check may take."""

    def __init__(self, source: str, place: tuple[str, int], timeout_s: float = TIMEOUT_S) -> None:
        """Connect. Raises NotConformant if nobody accepts it."""
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._place = f"{place[0]}:{place[1]}"
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._sock.bind((source, 0))
        except OSError as error:
            self._sock.close()
            raise HarnessError(f"a health check from {source}: {error.strerror}") from None
        self._sock.settimeout(timeout_s)
        try:
            self._sock.connect(place)
        except TimeoutError:
            self._sock.close()
            raise NotConformant(
                f"TCP {self._place} accepts nobody within {timeout_s:g} s"
            ) from None
        except OSError as error:
            self._sock.close()
            raise NotConformant(f"TCP {self._place}: {error.strerror}") from None

    def send(self, data: bytes) -> None:
        """Send; that the appliance has hung up shows in what it answers."""
        self._sock.settimeout(max(self._deadline - time.monotonic(), 0.001))
        try:
            self._sock.sendall(data)
        except OSError:
            return

    def status(self) -> int:
        """The status of the answer to a request that was sent: as much as a check looks at."""
        return self._answer("GET", strict=False, whole=False).status

    def answer(self, method: str = "GET", *, strict: bool = False) -> Answer:
        """The whole answer to a request that was sent. Raises NotConformant.

        `strict`: also what many clients forgive is wrong.
        """
        return self._answer(method, strict=strict, whole=True)

    def ending(self) -> str:
        """What follows an answer: "closed", "reset", "open" or "more bytes"."""
        try:
            return "more bytes" if self._receive(1) else "closed"
        except NotConformant as error:
            return "reset" if "reset" in str(error) else "open"

    def abort(self) -> None:
        """End it with a RST."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def close(self) -> None:
        """End it."""
        self._sock.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self, method: str, *, strict: bool, whole: bool) -> Answer:
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MOST_BYTES)
        http.send(h11.Request(method=method, target="/", headers=[("Host", "appliance")]))
        http.send(h11.EndOfMessage())
        raw, body, status = bytearray(), bytearray(), 0
        while True:
            try:
                event = http.next_event()
                if event is h11.NEED_DATA:
                    data = self._receive(len(raw))
                    raw += data
                    http.receive_data(data)
                    continue
            except h11.RemoteProtocolError as error:
                raise NotConformant(f"{_SYNTAX}{error}{_shown(raw)}") from None
            if isinstance(event, h11.Response):
                status = event.status_code
                if not whole:
                    return Answer(status)
                if strict:
                    _strictly(bytes(raw))
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > _MOST_BYTES:
                    raise NotConformant(f"an answer of more than {_MOST_BYTES:,} bytes")
            elif isinstance(event, h11.EndOfMessage):
                if strict and http.trailing_data[0]:
                    more = len(http.trailing_data[0])
                    raise NotConformant(f"{more} bytes follow the end of the answer{_shown(raw)}")
                return Answer(status, bytes(body))

    def _receive(self, before: int) -> bytes:
        """Some bytes, b"" at the end; `before`: how many there were. Raises NotConformant."""
        # At least a moment: what lies there already was in time, however late it is looked for.
        self._sock.settimeout(max(self._deadline - time.monotonic(), 0.001))
        try:
            data = self._sock.recv(4096)
        except TimeoutError:
            what = "the rest of the answer" if before else "an answer"
            limit = f"{self._timeout_s:g} s"
            raise NotConformant(f"TCP {self._place}: {what} is missing after {limit}") from None
        except OSError as error:
            what = f"after {before} bytes" if before else "before an answer"
            how = "the connection was reset" if error.errno else str(error)
            raise NotConformant(f"TCP {self._place}: {how} {what}") from None
        if not data and not before:
            raise NotConformant(f"TCP {self._place}: the connection was closed without an answer")
        return data


class HealthPort(NamedTuple):
    """Where an appliance's health is asked, and how."""

    address: str
    port: int
    path: str
    nodes: tuple[str, ...]
    """The load balancer's addresses: checks come from each of them."""
    http: bool
    """By HTTP; else by TCP, where a connection that is accepted is all."""

    def connect(self, node: int = 0, timeout_s: float = TIMEOUT_S) -> Connection:
        """A connection from a node. Raises NotConformant if it is not accepted."""
        return Connection(self.nodes[node], (self.address, self.port), timeout_s)

    def request(
        self,
        method: str = "GET",
        path: str = "",
        *,
        version: str = "1.1",
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """A request; `headers` replace those of a usual check, `Host: ` among them."""
        usual = {
            "Host": f"{self.address}:{self.port}",
            "User-Agent": "ELB-HealthChecker/2.0",
            "Connection": "close",
        }
        lines = [f"{method} {path or self.path} HTTP/{version}"]
        chosen = usual if headers is None else headers
        lines += [f"{name}: {value}" for name, value in chosen.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")

    def check(self, node: int = 0, timeout_s: float = TIMEOUT_S) -> None:
        """One check. Raises NotConformant, with the reason, if it fails."""
        if not self.http:
            self.connect(node, timeout_s).close()
            return
        with self.connect(node, timeout_s) as connection:
            connection.send(self.request())
            status = connection.status()
        if not 200 <= status < 400:
            raise NotConformant(f"a health check was answered {status}, which is not 200 to 399")

    def passes(self, timeout_s: float = TIMEOUT_S) -> None:
        """Checks succeed: one of two in a row. Raises NotConformant if the target would go."""
        if reason := self.failing(timeout_s):
            raise NotConformant(reason)

    def failing(self, timeout_s: float = TIMEOUT_S) -> str:
        """Why two checks in a row fail, "" if they do not."""
        reason = ""
        for attempt in range(TRIES):
            try:
                self.check(attempt % len(self.nodes), timeout_s)
                return ""
            except NotConformant as error:
                reason = str(error)
        return reason


def _strictly(raw: bytes) -> None:
    """What h11 forgives: RFC 9112 §2.2 (lines end with CRLF) and §4 (the status line's spaces)."""
    head, end, _ = raw.partition(b"\r\n\r\n")
    if not end or b"\n" in head.replace(b"\r\n", b""):
        raise NotConformant(f"{_SYNTAX}a line ends with LF, not with CRLF{_shown(raw)}")
    if not _STATUS_LINE.fullmatch(head.partition(b"\r\n")[0]):
        raise NotConformant(f"{_SYNTAX}the status line{_shown(raw)}")


def _shown(raw: bytes | bytearray) -> str:
    return f": {bytes(raw[:60])!r}" if raw else ""
