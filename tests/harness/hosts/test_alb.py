"""The load balancer: whom it chooses, what it tells instances and clients, what it survives."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from appliance_sdk.harness.hosts import (
    ApplicationLoadBalancer,
    Banner,
    Discard,
    HttpClient,
    HttpServer,
    Listener,
    Request,
    Response,
    TcpConnection,
    http_get,
)

if TYPE_CHECKING:
    from appliance_sdk.harness.hosts import Host
    from tests.harness.hosts.conftest import Network

ALB = "10.0.0.2"


class Slam(Discard):
    """Resets when a request comes."""

    def data(self, conn: TcpConnection, data: bytes, now: float) -> None:
        conn.abort()


class Site:
    """A client, a load balancer and web servers that say who they are."""

    def __init__(self, network: type[Network], servers: int = 3) -> None:
        self.net = network()
        self.seen: list[Request] = []
        self.hosts: list[Host] = []
        self.listeners: list[Listener] = []
        for i in range(servers):
            host = self.net.join(f"web{i}", f"10.0.1.{i}")
            self.hosts.append(host)
            self.listeners.append(host.listen(8080, HttpServer(self._respond(f"web{i}"))))
        self.alb = ApplicationLoadBalancer(
            self.net.server, [(f"10.0.1.{i}", 8080) for i in range(servers)]
        )

    def _respond(self, name: str) -> Callable[[Request], Response]:
        def respond(request: Request) -> Response:
            self.seen.append(request)
            return Response(headers=[("X-Name", name)], body=request.body)

        return respond

    def get(self, path: str = "/", **options: object) -> tuple[int, str]:
        got = http_get(self.net.client, ALB, 80, path, self.net.now, **options)  # type: ignore[arg-type]
        self.net.run(until=self.net.now + 200)
        assert not got.failed
        return got.status, got.header("x-name")


@pytest.fixture
def site(network: type[Network]) -> Site:
    return Site(network)


def test_ties_go_in_turn_over_connections_that_stay_open(site: Site) -> None:
    assert [site.get() for _ in range(6)] == [(200, f"web{i}") for i in (0, 1, 2, 0, 1, 2)]
    assert [instance.answered for instance in site.alb.instances] == [2, 2, 2]
    assert site.alb.answers == {200: 6}


def test_connections_to_instances_are_used_again_and_closed_when_idle(site: Site) -> None:
    client = HttpClient(site.net.client, ALB, 80, 0.0)
    for _ in range(9):
        client.request()
        site.net.run(until=site.net.now + 1)
    assert [len(listener.connections) for listener in site.listeners] == [1, 1, 1]
    site.net.run(until=site.net.now + 100)
    assert [listener.connections[0].ended for listener in site.listeners] == ["closed"] * 3
    client.request()
    site.net.run(until=site.net.now + 1)
    site.alb.close()
    client.close()
    site.net.run()
    assert site.net.server.connections == ()


def test_the_least_busy_instance_is_chosen(site: Site) -> None:
    net = site.net
    net.sent.clear()
    site.alb.instances[0].outstanding = 2
    site.alb.instances[1].outstanding = 1
    assert [site.get()[1] for _ in range(3)] == ["web2"] * 3


def test_many_clients_at_once_are_spread(site: Site) -> None:
    got = [http_get(site.net.client, ALB, 80, "/", 0.0) for _ in range(60)]
    site.net.run(until=100)
    assert all(exchange.status == 200 for exchange in got)
    assert [instance.answered for instance in site.alb.instances] == [20, 20, 20]
    assert [instance.outstanding for instance in site.alb.instances] == [0, 0, 0]


def test_instances_learn_who_asked(site: Site) -> None:
    site.get("/a?b", headers=[("Connection", "keep-alive, x"), ("TE", "gzip"), ("X-A", "1")])
    (request,) = site.seen
    assert request.client[0] == ALB
    assert request.target == "/a?b"
    assert request.header("x-forwarded-for") == "10.0.0.1"
    assert request.header("x-forwarded-port") == "80"
    assert request.header("x-forwarded-proto") == "http"
    assert re.fullmatch(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24}", request.header("x-amzn-trace-id"))
    assert request.header("host") == ALB
    assert request.header("x-a") == "1"
    assert not request.header("te")
    assert not request.header("connection")
    trace = [("X-Forwarded-For", "1.2.3.4"), ("X-Amzn-Trace-Id", "Root=1-0-1")]
    site.get("/", headers=trace)
    assert site.seen[1].header("x-forwarded-for") == "1.2.3.4, 10.0.0.1"
    assert re.fullmatch(r"Self=1-\S+;Root=1-0-1", site.seen[1].header("x-amzn-trace-id"))


def test_bodies_and_methods_pass_through(site: Site) -> None:
    got = http_get(site.net.client, ALB, 80, "/", 0.0, method="PUT", body=bytes(100_000))
    site.net.run(until=100)
    assert got.body == bytes(100_000)
    head = http_get(site.net.client, ALB, 80, "/", site.net.now, method="HEAD")
    site.net.run(until=200)
    assert (head.status, head.body) == (200, b"")
    old = site.net.client.connect(ALB, 80, site.net.now)
    old.send(b"GET / HTTP/1.0\r\n\r\n")
    site.net.run(until=300)
    assert old.received.startswith(b"HTTP/1.1 200")
    assert site.seen[-1].header("host") == ALB
    assert site.get(method="CONNECT") == (405, "")


def test_who_refused_is_tried_last_until_it_answers(site: Site) -> None:
    site.listeners[0].close()
    assert site.get() == (502, "")
    assert [site.get()[1] for _ in range(4)] == ["web1", "web2", "web1", "web2"]
    assert site.alb.instances[0].refused
    assert (site.alb.instances[0].failed, site.alb.instances[0].requests) == (1, 1)
    site.hosts[0].listen(8080, HttpServer(lambda r: Response(headers=[("X-Name", "back")])))
    for listener in site.listeners[1:]:
        listener.close()
    for connection in (*site.hosts[1].connections, *site.hosts[2].connections):
        connection.abort()
    statuses = [site.get() for _ in range(3)]
    assert statuses == [(502, ""), (502, ""), (200, "back")]
    assert site.alb.answers == {200: 5, 502: 3}


@pytest.mark.parametrize("app", [Slam, Banner("SSH-2.0-x")])
def test_an_instance_that_resets_or_speaks_something_else(
    network: type[Network], app: Callable[[], Discard]
) -> None:
    site = Site(network, servers=1)
    site.listeners[0].app_factory = app
    assert site.get() == (502, "")


def test_an_instance_that_is_silent(network: type[Network]) -> None:
    site = Site(network, servers=1)
    site.listeners[0].app_factory = Discard
    got = http_get(site.net.client, ALB, 80, "/", 0.0)
    site.net.run(until=59)
    assert not got.done
    site.net.run(until=61)
    assert got.status == 504
    site.alb.instances[0].address = "10.0.1.99"  # nobody there
    later = http_get(site.net.client, ALB, 80, "/", 61.0)
    site.net.run(until=70.9)
    assert not later.done
    site.net.run(until=72)
    assert later.status == 504
    assert later.header("server") == "awselb/2.0"
    assert site.alb.instances[0].outstanding == 0


def test_no_instance_at_all(network: type[Network]) -> None:
    site = Site(network, servers=0)
    assert site.get() == (503, "")


def test_a_client_that_leaves_early_and_pipelines(site: Site) -> None:
    gone = site.net.client.connect(ALB, 80, 0.0)
    gone.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    site.net.run(until=0.035)
    gone.abort()
    conn = site.net.client.connect(ALB, 80, 0.1)
    conn.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 10)
    conn.close()
    site.net.run(until=200)
    assert conn.received.count(b"HTTP/1.1 200") == 10
    assert [instance.outstanding for instance in site.alb.instances] == [0, 0, 0]
    assert site.net.server.connections == ()


def test_no_room_for_another_connection(site: Site) -> None:
    site.net.server.max_connections = 1
    assert site.get() == (502, "")
    assert site.alb.instances[0].failed == 1


def test_a_connection_that_an_instance_closed_while_idle_is_not_used(site: Site) -> None:
    for _ in range(3):
        got = http_get(site.net.client, ALB, 80, "/", site.net.now)
        site.net.run(until=site.net.now + 1)
    for host in site.hosts:
        host.connections[0].abort()
    site.net.run(until=site.net.now + 1)
    for _ in range(3):
        got = http_get(site.net.client, ALB, 80, "/", site.net.now)
        site.net.run(until=site.net.now + 1)
        assert got.status == 200
