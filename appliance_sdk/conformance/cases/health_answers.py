"""Health checks as GWLB makes them: accepted, answered in time, in HTTP that everybody reads."""

from __future__ import annotations

from appliance_sdk.conformance.case import MUST, SHOULD, NotConformant, Profile, case
from appliance_sdk.conformance.prober import SHORTEST_TIMEOUT_S, TIMEOUT_S, HealthPort
from appliance_sdk.conformance.rig import Rig, expect

_H = Profile.HEALTH
_TCP = ("health",)
_HTTP = ("health", "http_health")
_AWS = 'AWS guide, "Health checks for Gateway Load Balancer target groups"'
_SEVERAL = _AWS + ": checks are distributed, and several come in an interval"
_SYNTAX = "RFC 9112 §4, §6; observed: checks refused a malformed answer (gwlbtun, pull request 19)"


@case("health/tcp", MUST, _H, needs=_TCP, reference=_AWS + ": the protocol is TCP by default")
def tcp(rig: Rig) -> None:
    """A TCP connection to the port that it was told to answer on is accepted.

    That is a whole check if the target group's protocol is TCP. A group checks port 80 unless it
    is told otherwise: an appliance that listens elsewhere, and a group that was not told, never
    become healthy.
    """
    rig.healthy(http=False).passes()


@case("health/http", MUST, _H, needs=_HTTP, reference=_AWS + ": success codes are 200 to 399")
def http(rig: Rig) -> None:
    """GET is answered with a status of 200 to 399 while packets are forwarded."""
    rig.healthy().passes()


@case("health/well-formed", MUST, _H, needs=_HTTP, reference=_SYNTAX)
def well_formed(rig: Rig) -> None:
    """An answer is HTTP/1.1: a status line, headers, an empty line, all ended by CRLF, and a body
    as long as Content-Length says or until the connection is closed."""
    port = rig.healthy()
    with port.connect() as connection:
        connection.send(port.request())
        connection.answer(strict=True)


@case("health/closed", MUST, _H, needs=_HTTP, reference="RFC 9112 §9.6; " + _AWS)
def closed(rig: Rig) -> None:
    """After the answer to a request with "Connection: close" it closes the connection."""
    port = rig.healthy()
    with port.connect() as connection:
        connection.send(port.request())
        connection.answer()
        ending = connection.ending()
    expect(ending != "open", f"the connection is open yet after {TIMEOUT_S:g} s")
    expect(ending != "more bytes", "more bytes follow the answer")


@case(
    "health/closed-in-order", SHOULD, _H, needs=_HTTP, reference="RFC 9112 §9.6: a reset may erase"
)
def closed_in_order(rig: Rig) -> None:
    """It reads the request before it closes, so that the connection ends with a FIN.

    The kernel sends a RST if something was not read, and a RST that overtakes the answer erases
    it: the check fails now and then.
    """
    port = rig.healthy()
    for _ in range(10):
        with port.connect() as connection:
            connection.send(port.request())
            connection.answer()
            ending = connection.ending()
        expect(ending != "reset", "the connection ended with a RST")
        if ending == "open":
            break  # another case's matter


@case("health/kept-open", MUST, _H, needs=_HTTP, reference="RFC 9112 §9.3: persistent connections")
def kept_open(rig: Rig) -> None:
    """A request that does not ask to close is answered whole at once, too: nobody knows whether
    GWLB's checks do."""
    port = rig.healthy()
    with port.connect() as connection:
        connection.send(port.request(headers={"Host": port.address}))
        connection.answer()
    port.passes()


@case("health/any-headers", MUST, _H, needs=_HTTP, reference="AWS documents no header of GWLB's")
def any_headers(rig: Rig) -> None:
    """The answer does not depend on User-Agent, Host or other headers."""
    port = rig.healthy()
    sets: list[dict[str, str]] = [
        {"Host": port.address, "Connection": "close"},
        {"Host": "", "User-Agent": "curl/8.0", "Connection": "close"},
        {"host": f"{port.address}:{port.port}", "connection": "close", "accept": "*/*"},
        {"Host": "appliance.internal", "X-Made-Up": "y" * 500, "Connection": "close"},
    ]
    for headers in sets:
        _succeeds(port, port.request(headers=headers), f"with the headers {headers}")


@case("health/http-1-0", SHOULD, _H, needs=_HTTP, reference="RFC 9112 §2.3: a lower version")
def http_1_0(rig: Rig) -> None:
    """A request in HTTP/1.0, which needs no Host, is answered the same."""
    port = rig.healthy()
    _succeeds(port, port.request(version="1.0", headers={}), "in HTTP/1.0")


@case("health/in-pieces", SHOULD, _H, needs=_HTTP, reference="RFC 9293 §3.7: TCP has no records")
def in_pieces(rig: Rig) -> None:
    """A request that arrives in several segments is answered once it is whole."""
    port = rig.healthy()
    with port.connect() as connection:
        for byte in _cut(port.request(), 5):
            connection.send(byte)
            rig.advance(0.02)
        status = connection.status()
    expect(200 <= status < 400, f"it was answered {status}")


@case("health/head", SHOULD, _H, needs=_HTTP, reference="RFC 9110 §9.3.2")
def head(rig: Rig) -> None:
    """HEAD is answered like GET, without a body."""
    port = rig.healthy()
    with port.connect() as connection:
        connection.send(port.request("HEAD"))
        answer = connection.answer("HEAD", strict=True)
        ending = connection.ending()
    expect(200 <= answer.status < 400, f"HEAD was answered {answer.status}")
    expect(ending != "more bytes", "HEAD was answered with a body")


@case("health/steady", MUST, _H, needs=_TCP, reference=_AWS + ": two failures take a target out")
def steady(rig: Rig) -> None:
    """Two hundred checks, one after the other, all succeed while nothing else happens."""
    port = rig.healthy()
    for number in range(200):
        try:
            port.check(number % len(port.nodes))
        except NotConformant as error:
            raise NotConformant(f"check {number + 1} failed: {error}") from None


@case("health/at-once", MUST, _H, needs=_TCP, reference=_SEVERAL)
def at_once(rig: Rig) -> None:
    """Thirty-two checks at the same moment, from two addresses, are all answered within 5 s, the
    time that GWLB gives them by default."""
    _all_at_once(rig.healthy(), TIMEOUT_S)


@case(
    "health/at-once-in-2-s", SHOULD, _H, needs=_TCP, reference=_AWS + ": the timeout is 2 to 120 s"
)
def at_once_quickly(rig: Rig) -> None:
    """Thirty-two checks at the same moment are all answered within 2 s, the least time that GWLB
    can be told to give."""
    _all_at_once(rig.healthy(), SHORTEST_TIMEOUT_S)


@case("health/under-load", SHOULD, _H, needs=_TCP, reference=_AWS + ": the timeout is 2 to 120 s")
def under_load(rig: Rig) -> None:
    """While the data path has a thousand packets to take, checks are answered within 2 s.

    Flows stay with an unhealthy target by default because firewalls "are sometimes unable to
    respond to health checks due to high CPU" (AWS guide).
    """
    port, flow = rig.healthy(), rig.udp()
    for _ in range(5):
        for number in range(1000):
            rig.send(flow.to_server(b"load %d" % number))
        port.passes(SHORTEST_TIMEOUT_S)
        lost = rig.comes_up(TIMEOUT_S)
        expect(not lost, f"after a thousand packets: {lost}")


@case(
    "health/asked-address",
    SHOULD,
    _H,
    needs=("health", "every_address"),
    reference=_AWS + ": the address that was registered is asked",
)
def asked_address(rig: Rig) -> None:
    """An appliance that takes packets on every address answers checks on each, too: GWLB asks
    the one that was registered."""
    port = rig.healthy()
    port._replace(address=rig.wire.addresses[1]).passes()


def _succeeds(port: HealthPort, request: bytes, how: str) -> None:
    with port.connect() as connection:
        connection.send(request)
        status = connection.status()
    expect(200 <= status < 400, f"a check {how} was answered {status}")


def _all_at_once(port: HealthPort, timeout_s: float) -> None:
    """Two such rounds in a row must not fail: one that does takes no target out."""
    first = _failures(port, timeout_s)
    if first and (again := _failures(port, timeout_s)):
        raise NotConformant(f"{len(again)} of 32 failed twice; the last: {again[-1]}")


def _failures(port: HealthPort, timeout_s: float) -> list[str]:
    failed, asked = [], []
    for number in range(32):
        try:
            asked.append(connection := port.connect(number % len(port.nodes), timeout_s))
            if port.http:
                connection.send(port.request())
        except NotConformant as error:
            failed.append(str(error))
    for connection in asked:
        with connection:
            if port.http:
                try:
                    connection.status()
                except NotConformant as error:
                    failed.append(str(error))
    return failed


def _cut(data: bytes, count: int) -> list[bytes]:
    size = -(-len(data) // count)
    return [data[at : at + size] for at in range(0, len(data), size)]
