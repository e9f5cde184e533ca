"""What HTTP servers and clients exchange: requests and responses, bodies whole."""

from __future__ import annotations

import http
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from appliance_sdk.harness.hosts.tcp import TcpConnection

HeaderList: TypeAlias = Sequence[tuple[str, str]]
MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_HEAD_BYTES = 64 * 1024
"""What AWS's load balancers take, and more than servers of the field allow."""


def find_header(headers: HeaderList, name: str) -> str:
    """The first header of that name in any case, "" if there is none."""
    name = name.lower()
    return next((value for key, value in headers if key.lower() == name), "")


@dataclass(slots=True, frozen=True)
class Request:
    """A request as it arrived, its body whole and chunks put together."""

    method: str
    target: str
    """As in the request line: path and query."""
    headers: HeaderList
    """In order, names as they were written."""
    body: bytes
    client: tuple[str, int]
    """Address and port that the connection came from."""
    version: str = "1.1"

    def header(self, name: str) -> str:
        """The first header of that name in any case, "" if there is none."""
        return find_header(self.headers, name)

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]


@dataclass(slots=True, frozen=True)
class Response:
    """An answer. `Response(body=b"hello")` is a 200."""

    status: int = 200
    headers: HeaderList = field(default_factory=tuple)
    """What is missing for the body's length is added."""
    body: bytes = b""
    """Left out where there is none: for HEAD, 204 and 304."""
    chunked: bool = False
    """Say the length chunk by chunk (for HTTP/1.1; for HTTP/1.0, by closing)."""
    chunk_bytes: int = 1000
    """How large chunks are."""
    close: bool = False
    """Close the connection afterwards."""


class HttpExchange:
    """One request and what became of it."""

    def __init__(self, conn: TcpConnection) -> None:
        self.conn = conn
        """The connection that it went over."""
        self.status = 0
        """The answer's status, 0 until it came."""
        self.headers: HeaderList = ()
        """The answer's headers, names as they were written."""
        self.body = b""
        """The answer's body as far as it came, chunks put together."""
        self.done = False
        """The answer came whole, or it failed."""
        self.failed = ""
        """Why there is no whole answer: refused, unreachable, timeout, reset, closed (too early),
        garbled, too_large, cancelled. "" while it is open and when all went well."""
        self.on_done: Callable[[HttpExchange, float], None] | None = None
        """Called once when it is done."""

    def header(self, name: str) -> str:
        """The answer's first header of that name in any case, "" if there is none."""
        return find_header(self.headers, name)

    def finish(self, failed: str, now: float) -> None:
        """It is done; the client says so."""
        if not self.done:
            self.done, self.failed = True, failed
            if self.on_done is not None:
                self.on_done(self, now)


def reason_of(status: int) -> str:
    """The reason phrase of a status, "" for one that has none."""
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return ""


def encode_headers(headers: HeaderList) -> list[tuple[bytes, bytes]]:
    """As they go out. Raises ValueError for what is not Latin-1."""
    return [(key.encode("latin-1"), value.encode("latin-1")) for key, value in headers]


def decode_headers(raw: Sequence[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """As they came, names as they were written."""
    return [(key.decode("latin-1"), value.decode("latin-1")) for key, value in raw]
