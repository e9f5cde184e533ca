"""An HTTP/1 client for simulated hosts; h11 reads and writes the protocol."""

from __future__ import annotations

import h11

from appliance_sdk.harness.hosts.host import Host
from appliance_sdk.harness.hosts.http_types import (
    MAX_BODY_BYTES,
    MAX_HEAD_BYTES,
    HeaderList,
    HttpExchange,
    decode_headers,
    encode_headers,
    find_header,
)
from appliance_sdk.harness.hosts.tcp import TcpConnection

_STATUS_LINE = b"HTTP/"


class HttpClient:
    """One connection to a server and the requests over it, one after the other."""

    def __init__(
        self,
        host: Host,
        address: str,
        port: int,
        now: float,
        *,
        source_port: int = 0,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._name = f"[{address}]" if ":" in address else address
        self._name += f":{port}" if port != 80 else ""
        self._max_body_bytes = max_body_bytes
        self._body = bytearray()
        self._exchange: HttpExchange | None = None
        self._over = False
        self._fresh = True
        self.conn = host.connect(address, port, now, source_port=source_port, app=self)
        """Its connection."""
        self.conn.keep_bytes = 0

    @property
    def idle(self) -> bool:
        """Whether `request` may be called: no exchange is open, and the connection goes on."""
        return self._exchange is None and not self._over

    def request(
        self,
        method: str = "GET",
        target: str = "/",
        headers: HeaderList = (),
        body: bytes = b"",
    ) -> HttpExchange:
        """Send a request, also before the connection is open. Host and Content-Length are added
        if missing. Raises ValueError when not idle or for what HTTP does not allow."""
        if not self.idle:
            raise ValueError("the client is busy or closed: make another, or wait for idle")
        headers = list(headers)
        if not find_header(headers, "host"):
            headers.insert(0, ("Host", self._name))
        framed = find_header(headers, "content-length") or find_header(headers, "transfer-encoding")
        if body and not framed:
            headers.append(("Content-Length", str(len(body))))
        try:
            head = h11.Request(
                method=method.encode("latin-1"),
                target=target.encode("latin-1"),
                headers=encode_headers(headers),
            )
            out = self._http.send(head) or b""
            if body:
                out += self._http.send(h11.Data(data=body)) or b""
            out += self._http.send(h11.EndOfMessage()) or b""
        except h11.LocalProtocolError as error:
            self.close()
            raise ValueError(f"{method} {target} is no HTTP request: {error}") from None
        self._body.clear()
        self._fresh = True
        exchange = self._exchange = HttpExchange(self.conn)
        if not self.conn.send(out):
            self.close()
            raise ValueError(f"a request of {len(out):,} bytes is more than the connection takes")
        return exchange

    def close(self) -> None:
        """End the connection; an exchange that is open fails with "cancelled"."""
        self._over = True
        if self._exchange is None:
            self.conn.close()
        else:
            self.conn.abort()

    def opened(self, conn: TcpConnection, now: float) -> None:
        """Nothing to do: the request is on its way."""

    def data(self, conn: TcpConnection, data: bytes, now: float) -> None:
        """Bytes of an answer, or the server's end."""
        if self._over:
            return
        if self._exchange is None:
            self._over = True  # nothing was asked for, or the server closed while idle
            conn.close()
            return
        if self._fresh and not _STATUS_LINE.startswith(data[: len(_STATUS_LINE)]):
            self._fail("garbled", now)  # h11 would wait for an empty line first
            return
        self._fresh = False
        self._http.receive_data(data)
        try:
            while self._exchange is not None and self._take(self._http.next_event(), now):
                pass
        except h11.RemoteProtocolError:
            self._fail("garbled" if data else "closed", now)

    def ended(self, conn: TcpConnection, now: float) -> None:
        """Whatever is open fails."""
        cancelled, self._over = self._over, True
        reason = "refused" if conn.refused and conn.ended == "reset" else conn.ended
        self._done("cancelled" if cancelled and conn.ended == "reset" else reason, now)

    def _take(self, event: object, now: float) -> bool:
        """Act on an event; whether there may be another."""
        exchange = self._exchange
        if exchange is None or event is h11.NEED_DATA:
            return False
        if isinstance(event, h11.Response):
            exchange.status = event.status_code
            exchange.headers = decode_headers(event.headers.raw_items())
        elif isinstance(event, h11.Data):
            self._body += event.data
            if len(self._body) > self._max_body_bytes:
                self._fail("too_large", now)
                return False
        elif isinstance(event, h11.EndOfMessage):
            self._complete(now)
            return False
        elif event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
            self._fail("closed", now)
            return False
        return True

    def _complete(self, now: float) -> None:
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        else:
            self._over = True
            self.conn.close()
        self._done("", now)

    def _fail(self, reason: str, now: float) -> None:
        self._over = True
        self.conn.abort()
        self._done(reason, now)

    def _done(self, failed: str, now: float) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.body = bytes(self._body)
            exchange.finish(failed, now)


def http_get(
    host: Host,
    address: str,
    port: int,
    path: str,
    now: float,
    *,
    headers: HeaderList = (),
    method: str = "GET",
    body: bytes = b"",
    source_port: int = 0,
) -> HttpExchange:
    """Fetch something over a connection of its own, closed when it is done.

    Raises ValueError for what cannot be sent; what happens later is in the exchange.
    """
    client = HttpClient(host, address, port, now, source_port=source_port)
    exchange = client.request(method, path, headers, body)
    exchange.on_done = lambda _exchange, _now: client.close()
    return exchange
