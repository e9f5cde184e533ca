"""What health ports meet besides checks: connections that say nothing, nonsense, resets."""

from __future__ import annotations

import contextlib

from appliance_sdk.conformance.case import MUST, SHOULD, NotConformant, Profile, case
from appliance_sdk.conformance.prober import SHORTEST_TIMEOUT_S, TIMEOUT_S, HealthPort
from appliance_sdk.conformance.rig import Rig

_H = Profile.HEALTH
_TCP = ("health",)
_HTTP = ("health", "http_health")
_CLOSE = "AWS does not say how a check closes: FIN or RST, before or after an answer"
_STUCK = "a check's connection may stay open: its node was replaced, its FIN was lost"
_REACH = "whoever reaches the health port can send anything"

_CLIENT_HELLO = bytes.fromhex("16030100c5010000c10303") + bytes(186)


@case("health/opened-and-closed", MUST, _H, needs=_TCP, reference=_CLOSE)
def opened_and_closed(rig: Rig) -> None:
    """Two hundred connections that are closed without a word do no harm: that is what TCP checks
    look like."""
    port = rig.healthy()
    for number in range(200):
        port.connect(number % len(port.nodes)).close()
    port.passes()


@case("health/reset", MUST, _H, needs=_TCP, reference=_CLOSE)
def reset(rig: Rig) -> None:
    """Connections that end with a RST, before a request or right behind it, do no harm."""
    port = rig.healthy()
    for number in range(200):
        connection = port.connect(number % len(port.nodes))
        if number % 2:
            connection.send(port.request())
        connection.abort()
    port.passes()


@case("health/half-a-request", MUST, _H, needs=_HTTP, reference=_CLOSE)
def half_a_request(rig: Rig) -> None:
    """Requests that end in their middle do no harm."""
    port = rig.healthy()
    for number in range(50):
        with port.connect() as connection:
            connection.send(port.request()[: number + 1])
    port.passes()


@case("health/one-silent-connection", MUST, _H, needs=_TCP, reference=_STUCK)
def one_silent_connection(rig: Rig) -> None:
    """While one connection is open and says nothing, checks are answered and packets pass."""
    _stand_open(rig, 1, b"", TIMEOUT_S)


@case("health/silent-connections", SHOULD, _H, needs=_TCP, reference=_STUCK)
def silent_connections(rig: Rig) -> None:
    """While a hundred connections are open and say nothing, checks are answered."""
    _stand_open(rig, 100, b"", SHORTEST_TIMEOUT_S)


@case("health/unfinished-requests", MUST, _H, needs=_HTTP, reference=_STUCK)
def unfinished_requests(rig: Rig) -> None:
    """While eight requests have come to their middle and no further, checks are answered."""
    _stand_open(rig, 8, rig.health.request()[:-4], TIMEOUT_S)


@case("health/slow-readers", MUST, _H, needs=_HTTP, reference=_STUCK)
def slow_readers(rig: Rig) -> None:
    """While eight connections have asked and do not read the answer, checks are answered."""
    _stand_open(rig, 8, rig.health.request(), TIMEOUT_S)


@case("health/nonsense", MUST, _H, needs=_TCP, reference=_REACH)
def nonsense(rig: Rig) -> None:
    """Random bytes, TLS, and requests that are none do no harm to checks and packets."""
    port = rig.healthy()
    for data in (
        rig.random.randbytes(500),
        bytes(2000),
        _CLIENT_HELLO,
        b"\r\n" * 50,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\n: x\r\n\r\n",
        b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"%n%s" * 100),
    ):
        _say(port, data)
    port.passes()


@case("health/other-requests", MUST, _H, needs=_HTTP, reference=_REACH)
def other_requests(rig: Rig) -> None:
    """Other methods and paths, bodies, and several requests at once do no harm."""
    port = rig.healthy()
    for data in (
        port.request("POST", headers={"Host": "x", "Content-Length": "5"}) + b"hello",
        port.request("OPTIONS", "*"),
        port.request("DELETE", "/"),
        port.request("GET", "/../../etc/passwd"),
        port.request("GET", "http://example.com/"),
        port.request("CONNECT", "example.com:443"),
        port.request("GET", "/?" + "a" * 4000),
        port.request(headers={"Host": "x"}) * 20,
    ):
        _say(port, data)
    port.passes()


@case("health/huge-request", MUST, _H, needs=_TCP, reference=_REACH)
def huge_request(rig: Rig) -> None:
    """A line of a megabyte and ten thousand headers do no harm."""
    port = rig.healthy()
    _say(port, b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n")
    headers = b"".join(b"X-%d: y\r\n" % number for number in range(10_000))
    _say(port, b"GET / HTTP/1.1\r\n" + headers + b"\r\n")
    port.passes()


def _stand_open(rig: Rig, count: int, said: bytes, timeout_s: float) -> None:
    """Checks and packets pass while so many connections stand open."""
    port = rig.healthy()
    with contextlib.ExitStack() as stack:
        for number in range(count):
            connection = stack.enter_context(port.connect(number % len(port.nodes)))
            if said:
                connection.send(said)
        try:
            port.passes(timeout_s)
        except NotConformant as error:
            raise NotConformant(f"with {count} connections open: {error}") from None
        rig.alive()


def _say(port: HealthPort, data: bytes) -> None:
    """Say something, and leave, whatever is answered; once whole, once with a RST."""
    for ending in ("close", "abort"):
        connection = port.connect()
        connection.send(data)
        getattr(connection, ending)()
