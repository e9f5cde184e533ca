"""An HTTP/1 server for simulated hosts; h11 reads and writes the protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import h11

from appliance_sdk.harness.hosts.http_types import (
    MAX_BODY_BYTES,
    MAX_HEAD_BYTES,
    Request,
    Response,
    decode_headers,
    encode_headers,
    find_header,
    reason_of,
)
from appliance_sdk.harness.hosts.tcp import TcpConnection

_NO_BODY = (204, 304)
_FRAMING = ("content-length", "transfer-encoding")

Answer: TypeAlias = Callable[[Response, float], None]
Handle: TypeAlias = Callable[[Request, float, Answer], None]


class HttpConversation:
    """The app of one connection: hands over requests one by one and sends the answers in order.

    `handle(request, now, answer)` may call `answer(response, now)` at once or later; the next
    request comes only after that. Garbage is answered with 400 and the end of the connection.
    """

    def __init__(self, handle: Handle, *, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self._handle = handle
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._max_body_bytes = max_body_bytes
        self._head: h11.Request | None = None
        self._body = bytearray()
        self._outstanding = self._pumping = self._over = False
        self._unread = 0

    def opened(self, conn: TcpConnection, now: float) -> None:
        """Keep nothing of what comes: it is handed on."""
        conn.keep_bytes = 0

    def data(self, conn: TcpConnection, data: bytes, now: float) -> None:
        """Bytes of requests, or their end."""
        if self._over:
            return
        self._unread += len(data)
        if self._outstanding and self._unread > self._max_body_bytes:
            self._over = True
            conn.abort()  # more requests than anyone pipelines, none of them answered yet
            return
        self._http.receive_data(data)
        self._pump(conn, now)

    def ended(self, conn: TcpConnection, now: float) -> None:
        """Answers that come now go nowhere."""
        self._over = True

    def _pump(self, conn: TcpConnection, now: float) -> None:
        if self._pumping:
            return
        self._pumping = True
        while not self._outstanding and not self._over:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                self._give_up(conn, error.error_status_hint or 400)
                break
            if not self._take(event, conn, now):
                break
        self._pumping = False

    def _take(self, event: object, conn: TcpConnection, now: float) -> bool:
        """Act on an event; whether there may be another."""
        if isinstance(event, h11.Request):
            self._head = event
            self._body.clear()
            if self._http.they_are_waiting_for_100_continue:
                informational = h11.InformationalResponse(status_code=100, headers=[])
                conn.send(self._http.send(informational) or b"")
        elif isinstance(event, h11.Data):
            self._body += event.data
            if len(self._body) > self._max_body_bytes:
                self._give_up(conn, 413)
        elif isinstance(event, h11.EndOfMessage):
            self._unread = 0
            self._request(conn, now)
        else:
            if isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
                self._over = True
                conn.close()
            return False
        return True

    def _request(self, conn: TcpConnection, now: float) -> None:
        head = self._head
        if head is None:
            return
        request = Request(
            head.method.decode("latin-1"),
            head.target.decode("latin-1"),
            decode_headers(head.headers.raw_items()),
            bytes(self._body),
            conn.remote,
            head.http_version.decode("latin-1"),
        )
        self._outstanding = True

        def answer(response: Response, later: float) -> None:
            if self._outstanding and self._head is head:
                self._outstanding = False
                if not self._over:
                    self._write(conn, request.method, response)
                    self._pump(conn, later)

        self._handle(request, now, answer)

    def _write(self, conn: TcpConnection, method: str, response: Response) -> None:
        bodiless = method == "HEAD" or response.status in _NO_BODY
        headers = list(response.headers)
        framed = response.chunked or any(find_header(headers, name) for name in _FRAMING)
        if not framed and response.status not in _NO_BODY:
            headers.append(("Content-Length", str(len(response.body))))
        if response.close:
            headers.append(("Connection", "close"))
        step = response.chunk_bytes if response.chunked else len(response.body)
        try:
            head = h11.Response(
                status_code=response.status,
                headers=encode_headers(headers),
                reason=reason_of(response.status).encode(),
            )
            out = [self._http.send(head)]
            if not bodiless:
                for at in range(0, len(response.body), max(1, step)):
                    part = h11.Data(data=response.body[at : at + step])
                    out.append(self._http.send(part))
            out.append(self._http.send(h11.EndOfMessage()))
        except (h11.LocalProtocolError, ValueError):
            self._give_up(conn, 500)
            return
        if not conn.send(b"".join(part for part in out if part)):
            self._over = True
            conn.abort()
        elif self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        else:
            self._over = True
            conn.close()

    def _give_up(self, conn: TcpConnection, status: int) -> None:
        """Answer whatever it was, and close: h11 cannot go on after an error."""
        self._over = True
        text = f"HTTP/1.1 {status} {reason_of(status)}\r\n"
        conn.send(f"{text}Content-Length: 0\r\nConnection: close\r\n\r\n".encode("latin-1"))
        conn.close()


class HttpServer:
    """Answers HTTP/1: `host.listen(80, HttpServer(lambda request: Response(body=b"hello")))`.

    Does keep-alive, pipelining, chunked bodies and 100-continue. A `respond` that raises, or whose
    response cannot be sent, is answered with 500; `last_error` then says why.
    """

    def __init__(
        self, respond: Callable[[Request], Response], *, max_body_bytes: int = MAX_BODY_BYTES
    ) -> None:
        self._respond = respond
        self._max_body_bytes = max_body_bytes
        self.requests = 0
        """How many requests were answered, garbage not counted."""
        self.last_error: Exception | None = None
        """What `respond` raised last."""

    def __call__(self) -> HttpConversation:
        """The app for the next connection."""
        return HttpConversation(self._handle, max_body_bytes=self._max_body_bytes)

    def _handle(self, request: Request, now: float, answer: Answer) -> None:
        self.requests += 1
        try:
            response = self._respond(request)
        except Exception as error:  # a server outlives what one request does to its code
            self.last_error = error
            response = Response(500, body=b"internal server error\n")
        answer(response, now)
