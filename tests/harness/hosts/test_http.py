"""HTTP between two hosts: framing, keep-alive, garbage, and every way to fail."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance_sdk.harness.hosts import (
    Banner,
    Discard,
    HttpClient,
    HttpConversation,
    HttpServer,
    Request,
    Response,
    TcpConnection,
    TcpSettings,
    http_get,
)

if TYPE_CHECKING:
    from tests.harness.hosts.conftest import Network

B, B6 = "10.0.0.2", "fd00::2"
BIG = random.Random(2).randbytes(200_000)


def mirror(request: Request) -> Response:
    """Says what it understood."""
    text = f"{request.method} {request.target} {request.client[0]} {request.header('X-Mine')}|"
    return Response(headers=[("X-Kind", "mirror")], body=text.encode() + request.body)


@pytest.mark.parametrize("address", [B, B6])
def test_get(network: type[Network], address: str) -> None:
    net = network()
    server = HttpServer(mirror)
    listener = net.server.listen(80, server)
    got = http_get(net.client, address, 80, "/a?b", net.now, headers=[("X-Mine", "x")])
    assert not got.done
    net.run()
    assert (got.done, got.failed, got.status) == (True, "", 200)
    own = net.client.addresses[address == B6]
    assert got.body == f"GET /a?b {own} x|".encode()
    assert got.header("x-kind") == "mirror"
    assert got.header("content-length") == str(len(got.body))
    assert server.requests == 1
    assert got.conn.ended == listener.connections[0].ended == "closed"


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [0, 1, 200_000])
def test_bodies_come_whole_both_ways(network: type[Network], chunked: bool, size: int) -> None:
    net = network(loss=0.1, jitter_s=0.1)
    net.server.listen(80, HttpServer(lambda r: Response(body=r.body[::-1], chunked=chunked)))
    got = http_get(net.client, B, 80, "/", net.now, method="POST", body=BIG[:size])
    net.run()
    assert got.body == BIG[:size][::-1]
    assert bool(got.header("transfer-encoding")) == chunked


def test_requests_one_after_the_other_over_one_connection(network: type[Network]) -> None:
    net = network()
    server = HttpServer(mirror)
    net.server.listen(80, server)
    client = HttpClient(net.client, B, 80, net.now)
    for i in range(20):
        assert client.idle
        got = client.request("GET", f"/{i}")
        assert not client.idle
        with pytest.raises(ValueError, match="busy"):
            client.request()
        net.run()
        assert got.body.startswith(f"GET /{i} ".encode())
    assert len(net.client.connections) == 1
    client.close()
    net.run()
    assert net.client.connections == net.server.connections == ()


@given(cuts=st.lists(st.integers(0, 200), max_size=6))
@settings(deadline=None, max_examples=50)
def test_pipelined_requests_are_answered_in_order_however_they_are_cut(
    network: type[Network], cuts: list[int]
) -> None:
    net = network()
    net.server.listen(80, HttpServer(mirror))
    conn = net.client.connect(B, 80, net.now)
    sent = (
        b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
        b"POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        b"HEAD /3 HTTP/1.1\r\nHost: a\r\n\r\n"
        b"GET /4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    )
    edges = [0, *sorted(min(cut, len(sent)) for cut in cuts), len(sent)]
    for start, end in itertools.pairwise(edges):
        conn.send(sent[start:end])
        net.run(until=net.now + 0.1)
    conn.close()
    net.run()
    assert conn.received.count(b"HTTP/1.1 200 OK\r\n") == 4
    for part in (b"GET /1 10.0.0.1 |", b"POST /2 10.0.0.1 |abc", b"GET /4 10.0.0.1 |"):
        assert part in conn.received
    assert b"HEAD /3" not in conn.received
    assert conn.ended == "closed"


def test_thousands_of_pipelined_requests_are_no_recursion(network: type[Network]) -> None:
    net = network()
    server = HttpServer(mirror)
    net.server.listen(80, server)
    conn = net.client.connect(B, 80, net.now)
    conn.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 5000)
    conn.close()
    net.run()
    assert server.requests == 5000
    once = net.client.connect(B, 80, net.now)
    server().data(once, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2000, net.now)
    assert server.requests == 7000


def test_answers_may_come_later_and_more_requests_wait_within_bounds(
    network: type[Network],
) -> None:
    net = network()
    waiting: list[Any] = []
    listener = net.server.listen(
        80,
        lambda: HttpConversation(
            lambda request, now, answer: waiting.append((request, answer)), max_body_bytes=10_000
        ),
    )
    conn = net.client.connect(B, 80, net.now)
    conn.send(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
    net.run(until=1.0)
    assert [request.target for request, _ in waiting] == ["/1"]
    waiting[0][1](Response(body=b"one"), 1.0)
    waiting[0][1](Response(body=b"twice"), 1.0)
    net.run(until=2.0)
    assert [request.target for request, _ in waiting] == ["/1", "/2"]
    assert conn.received.endswith(b"one")
    conn.send(b"GET /3 HTTP/1.1\r\nHost: a\r\n\r\n" * 1000)
    net.run(until=3.0)
    assert conn.ended == listener.connections[0].ended == "reset"
    waiting[1][1](Response(), 3.0)
    net.run()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + bytes(70_000), b"431"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n" + bytes(2000), b"413"),
    ],
)
def test_garbage_and_excess_are_answered_and_end_it(
    network: type[Network], sent: bytes, status: bytes
) -> None:
    net = network()
    net.server.listen(80, HttpServer(mirror, max_body_bytes=1000))
    conn = net.client.connect(B, 80, net.now)
    conn.send(sent)
    net.run(until=5.0)
    assert conn.received.startswith(b"HTTP/1.1 " + status)
    assert conn.peer_closed
    conn.close()
    net.run()
    assert conn.ended == "closed"


@given(st.lists(st.binary(max_size=60), max_size=5), st.booleans())
@settings(deadline=None)
def test_no_bytes_make_either_side_raise(
    network: type[Network], parts: list[bytes], to_server: bool
) -> None:
    net = network()

    class Garbage(Discard):
        def data(self, conn: TcpConnection, data: bytes, now: float) -> None:
            conn.send(b"HTTP/1.1 200 OK\r\n")
            for part in parts:
                conn.send(part)
            conn.close()

    if to_server:
        net.server.listen(80, HttpServer(mirror))
        conn = net.client.connect(B, 80, net.now)
        conn.send(b"GET / HTTP/1.1\r\n")
        for part in parts:
            conn.send(part)
        conn.close()
        net.run()
        assert conn.ended
    else:
        net.server.listen(80, Garbage)
        got = http_get(net.client, B, 80, "/", net.now)
        net.run()
        assert got.done
        assert got.failed in ("", "garbled", "closed")
    assert net.client.connections == net.server.connections == ()


def test_100_continue_and_http_1_0(network: type[Network]) -> None:
    net = network()
    net.server.listen(80, HttpServer(mirror))
    conn = net.client.connect(B, 80, net.now)
    conn.send(
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n"
        b"Connection: close\r\n\r\n"
    )
    net.run(until=1.0)
    assert conn.received.startswith(b"HTTP/1.1 100")
    conn.send(b"ab")
    conn.close()
    net.run()
    assert conn.received.endswith(b"|ab")
    old = net.client.connect(B, 80, net.now)
    old.send(b"GET / HTTP/1.0\r\n\r\n")
    net.run(until=net.now + 1)
    assert old.received.endswith(b"GET / 10.0.0.1 |")
    assert old.peer_closed


@pytest.mark.parametrize(
    "response",
    [
        Response(100),
        Response(headers=[("Bad Name", "x")]),
        Response(headers=[("X", "a\r\nb")]),
        Response(headers=[("X", "\u20ac")]),
        Response(headers=[("Content-Length", "1")], body=b"three"),
        None,
    ],
)
def test_a_response_that_cannot_be_sent_becomes_500(
    network: type[Network], response: Response | None
) -> None:
    net = network()

    def respond(request: Request) -> Response:
        if response is None:
            raise KeyError(request.path)
        return response

    server = HttpServer(respond)
    net.server.listen(80, server)
    got = http_get(net.client, B, 80, "/x", net.now)
    net.run()
    assert (got.status, got.failed) == (500, "")
    assert (server.last_error is not None) == (response is None)


@pytest.mark.parametrize("status", [204, 304, 404, 599])
def test_statuses_with_and_without_body(network: type[Network], status: int) -> None:
    net = network()
    net.server.listen(80, HttpServer(lambda r: Response(status, body=b"text")))
    got = http_get(net.client, B, 80, "/", net.now)
    net.run()
    assert (got.status, got.failed) == (status, "")
    assert got.body == (b"" if status in (204, 304) else b"text")


def test_every_way_to_fail_is_told_apart(network: type[Network]) -> None:
    class Slam(Discard):
        def data(self, conn: TcpConnection, data: bytes, now: float) -> None:
            conn.abort()

    class Half(Discard):
        def data(self, conn: TcpConnection, data: bytes, now: float) -> None:
            conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
            conn.close()

    net = network(tcp=TcpSettings(syn_retries=1))
    net.server.listen(81, Slam)
    net.server.listen(82, Half)
    net.server.listen(22, Banner("SSH-2.0-x"))
    ports = {80: "refused", 81: "reset", 82: "closed", 22: "garbled"}
    got = {http_get(net.client, B, port, "/", net.now): why for port, why in ports.items()}
    net.run()
    assert {exchange.failed: why for exchange, why in got.items()} == {w: w for w in ports.values()}
    half = next(exchange for exchange, why in got.items() if why == "closed")
    assert (half.status, half.body) == (200, b"half")
    net.cut = True
    silent = http_get(net.client, B, 82, "/", net.now)
    net.run()
    assert silent.failed == "timeout"
    cancelled = HttpClient(net.client, B, 80, net.now)
    exchange = cancelled.request()
    cancelled.close()
    net.run()
    assert exchange.failed == "cancelled"


def test_too_large_an_answer(network: type[Network]) -> None:
    net = network()
    net.server.listen(80, HttpServer(lambda r: Response(body=BIG)))
    client = HttpClient(net.client, B, 80, net.now, max_body_bytes=1000)
    got = client.request()
    net.run()
    assert got.failed == "too_large"


def test_an_idle_client_notices_that_the_server_left(network: type[Network]) -> None:
    net = network()
    listener = net.server.listen(80, HttpServer(mirror))
    client = HttpClient(net.client, B, 80, net.now)
    client.request()
    net.run()
    listener.connections[0].close()
    net.run()
    assert not client.idle
    assert client.conn.ended == "closed"


@pytest.mark.parametrize(
    "wrong",
    [{"method": "GE T"}, {"target": "/a b"}, {"headers": [("a b", "c")]}, {"target": "/\u20ac"}],
)
def test_a_request_that_http_does_not_allow_is_refused(
    network: type[Network], wrong: dict[str, Any]
) -> None:
    client = HttpClient(network().client, B, 80, 0.0)
    with pytest.raises(ValueError, match=r"no HTTP request|encode"):
        client.request(**wrong)
