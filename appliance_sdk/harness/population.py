"""The hosts of a topology, with the services that they offer."""

from __future__ import annotations

import dataclasses
import ipaddress

from appliance_sdk.harness.hosts import (
    ApplicationLoadBalancer,
    Banner,
    Echo,
    Host,
    HttpServer,
    Request,
    Response,
    TcpSettings,
)
from appliance_sdk.harness.topology import (
    AlbService,
    BannerService,
    EchoService,
    HostPart,
    HttpService,
    Service,
    Topology,
)

_TCP = TcpSettings(syn_retries=2, data_retries=4)
"""Less patient than real hosts: 7 s for a SYN, 31 s for data, so that a test can wait for it."""

_ETHERNET_BYTES = 1500


def populate(topology: Topology) -> dict[str, Host]:
    """Every host by name; those with services first listen."""
    hosts = {
        name: Host(name, part.addresses, seed=topology.seed, mtu=part.mtu_bytes, tcp=_tcp(part))
        for name, part in topology.hosts.items()
    }
    for name, part in topology.hosts.items():
        for service in part.services:
            _offer(hosts[name], service, topology)
    return hosts


def _tcp(part: HostPart) -> TcpSettings:
    """With jumbo frames segments fill them, as on EC2; else there is room for encapsulation."""
    if part.mtu_bytes <= _ETHERNET_BYTES:
        return _TCP
    return dataclasses.replace(_TCP, mss=part.mtu_bytes - 40)


def _offer(host: Host, service: Service, topology: Topology) -> None:
    if isinstance(service, HttpService):
        body = service.body.replace("{host}", host.name).encode()
        status = service.status

        def respond(request: Request) -> Response:
            return Response(status, body=body)

        host.listen(service.port, HttpServer(respond))
    elif isinstance(service, AlbService):
        instances = [
            (_first(topology.hosts[name]), service.instance_port) for name in service.instances
        ]
        ApplicationLoadBalancer(host, instances, port=service.port)
    elif isinstance(service, EchoService):
        host.listen(service.port, Echo)
        host.udp(service.port).handler = lambda socket, got: socket.reply(got, got.data)
    else:
        assert isinstance(service, BannerService)
        host.listen(service.port, Banner(service.text))


def _first(part: HostPart) -> str:
    """The address under which others in the VPC know a host, IPv4 if it has one."""
    addresses = sorted(part.addresses, key=lambda a: ipaddress.ip_address(a).version)
    return addresses[0]
