"""An Application Load Balancer: HTTP/1 in, HTTP/1 out to whichever instance has least to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from appliance_sdk.harness.hosts.host import Host
from appliance_sdk.harness.hosts.http import Answer, HttpConversation
from appliance_sdk.harness.hosts.http_client import HttpClient
from appliance_sdk.harness.hosts.http_types import (
    HeaderList,
    HttpExchange,
    Request,
    Response,
    find_header,
    reason_of,
)
from appliance_sdk.harness.hosts.tcp_types import OPENING
from appliance_sdk.harness.hosts.timers import Timer

_HOP_BY_HOP = frozenset(  # RFC 9110 §7.6.1
    ("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding")
) | {"upgrade"}
_FORWARDED = ("x-forwarded-for", "x-forwarded-port", "x-forwarded-proto", "x-amzn-trace-id")
_MAX_POOLED = 64


@dataclass(slots=True)
class Instance:
    """A target of the load balancer and what it did."""

    address: str
    port: int
    outstanding: int = 0
    """Requests that it has not answered yet."""
    requests: int = 0
    """Requests that were sent to it."""
    answered: int = 0
    """Answers that came back whole."""
    failed: int = 0
    """Requests that ended in 502 or 504."""
    refused: bool = False
    """The last request failed: it is tried after all the others until it answers again."""
    pool: dict[HttpClient, Timer] = field(default_factory=dict)
    """Connections to it that wait for a request, with when each is closed."""


class ApplicationLoadBalancer:
    """Takes HTTP/1 on a host's port and forwards each request over connections of its own.

    The instance with the fewest outstanding requests is chosen, ties in turn. There are no health
    checks; bodies are passed on whole, up to 8 MiB. It answers itself with 502 (the instance
    refused, reset or spoke no HTTP), 503 (no instance), 504 (no answer in time).
    """

    def __init__(
        self,
        host: Host,
        instances: Sequence[tuple[str, int]],
        port: int = 80,
        *,
        connect_timeout_s: float = 10.0,
        idle_timeout_s: float = 60.0,
    ) -> None:
        self.host = host
        """Where it runs and connects from."""
        self.port = port
        """Where it listens."""
        self.instances = [Instance(*instance) for instance in instances]
        """Its targets; add or remove as you like."""
        self.answers: Counter[int] = Counter()
        """How many answers it gave of each status, those of the instances too."""
        self._connect_timeout_s = connect_timeout_s  # AWS: 10 s, fixed
        self._idle_timeout_s = idle_timeout_s  # AWS: 60 s by default
        self._turn = 0
        self._listener = host.listen(port, lambda: HttpConversation(self._handle))

    def close(self) -> None:
        """Take no more connections, and end those to the instances that are idle."""
        self._listener.close()
        for instance in self.instances:
            for client, timer in instance.pool.items():
                timer.cancel()
                client.close()
            instance.pool.clear()

    def _handle(self, request: Request, now: float, answer: Answer) -> None:
        if request.method == "CONNECT":
            self._answer(_own(405), now, answer)
            return
        instance = self._choose()
        if instance is None:
            self._answer(_own(503), now, answer)
            return
        instance.requests += 1
        try:
            client = self._connection(instance, now)
            exchange = client.request(
                request.method, request.target, self._headers(request, now), request.body
            )
        except ValueError:  # no port or connection left, or more bytes than one takes
            instance.failed += 1
            self._answer(_own(502), now, answer)
            return
        instance.outstanding += 1
        expired = []

        def check(at: float) -> None:
            waited = at - now
            if exchange.conn.state in OPENING or waited >= self._idle_timeout_s:
                expired.append(True)
                client.close()
            else:
                late[0] = self.host.call_at(now + self._idle_timeout_s, check)

        late = [self.host.call_at(now + self._connect_timeout_s, check)]

        def done(exchange: HttpExchange, at: float) -> None:
            late[0].cancel()
            instance.outstanding -= 1
            instance.refused = bool(exchange.failed)
            if exchange.failed:
                instance.failed += 1
                timeout = bool(expired) or exchange.failed == "timeout"
                response = _own(504 if timeout else 502)
            else:
                instance.answered += 1
                headers = [item for item in exchange.headers if item[0].lower() not in _HOP_BY_HOP]
                response = Response(exchange.status, headers, exchange.body)
                self._release(instance, client, at)
            self._answer(response, at, answer)

        exchange.on_done = done

    def _answer(self, response: Response, now: float, answer: Answer) -> None:
        self.answers[response.status] += 1
        answer(response, now)

    def _choose(self) -> Instance | None:
        count = len(self.instances)
        if not count:
            return None
        turn = self._turn % count
        order = self.instances[turn:] + self.instances[:turn]
        best = min(order, key=lambda instance: (instance.refused, instance.outstanding))
        self._turn = (turn + order.index(best) + 1) % count
        return best

    def _connection(self, instance: Instance, now: float) -> HttpClient:
        while instance.pool:
            client, timer = instance.pool.popitem()
            timer.cancel()
            if client.idle:
                return client
        return HttpClient(self.host, instance.address, instance.port, now)

    def _release(self, instance: Instance, client: HttpClient, now: float) -> None:
        if not client.idle:
            return
        if len(instance.pool) >= _MAX_POOLED:
            client.close()
            return

        def expire(_now: float) -> None:
            instance.pool.pop(client, None)
            client.close()

        instance.pool[client] = self.host.call_at(now + self._idle_timeout_s, expire)

    def _headers(self, request: Request, now: float) -> HeaderList:
        """What the instance is told: the client's headers, and who it was."""
        dropped = _HOP_BY_HOP.union(_FORWARDED, ("content-length", "expect"))
        headers = [item for item in request.headers if item[0].lower() not in dropped]
        before = request.header("x-forwarded-for")
        address = request.client[0]
        headers.append(("X-Forwarded-For", f"{before}, {address}" if before else address))
        headers.append(("X-Forwarded-Proto", "http"))
        headers.append(("X-Forwarded-Port", str(self.port)))
        unique = f"1-{int(now) & 0xFFFFFFFF:08x}-{self.host.random.getrandbits(96):024x}"
        trace = request.header("x-amzn-trace-id")
        value = f"Self={unique};{trace}" if "Root=" in trace else f"Root={unique}"
        headers.append(("X-Amzn-Trace-Id", value))
        if request.body:
            headers.append(("Content-Length", str(len(request.body))))
        if not find_header(headers, "host"):
            headers.insert(0, ("Host", self.host.addresses[0]))
        return headers


def _own(status: int) -> Response:
    """An answer of the load balancer itself."""
    title = f"{status} {reason_of(status)}"
    body = (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n"
        f"<center><h1>{title}</h1></center>\r\n</body>\r\n</html>\r\n"
    )
    headers = (("Server", "awselb/2.0"), ("Content-Type", "text/html"))
    return Response(status, headers, body.encode())
