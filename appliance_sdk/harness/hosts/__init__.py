"""Simulated hosts: TCP, UDP, ICMP and HTTP over packets in and packets out, in virtual time."""

from __future__ import annotations

from appliance_sdk.harness.hosts.alb import ApplicationLoadBalancer, Instance
from appliance_sdk.harness.hosts.apps import App, Banner, Discard, Echo, Sink
from appliance_sdk.harness.hosts.host import Host
from appliance_sdk.harness.hosts.http import HttpConversation, HttpServer
from appliance_sdk.harness.hosts.http_client import HttpClient, http_get
from appliance_sdk.harness.hosts.http_types import HttpExchange, Request, Response
from appliance_sdk.harness.hosts.ping import Ping
from appliance_sdk.harness.hosts.ports import Listener
from appliance_sdk.harness.hosts.tcp import TcpConnection
from appliance_sdk.harness.hosts.tcp_types import TcpSettings, TcpState
from appliance_sdk.harness.hosts.timers import Timer
from appliance_sdk.harness.hosts.udp import Datagram, UdpSocket

__all__ = [
    "App",
    "ApplicationLoadBalancer",
    "Banner",
    "Datagram",
    "Discard",
    "Echo",
    "Host",
    "HttpClient",
    "HttpConversation",
    "HttpExchange",
    "HttpServer",
    "Instance",
    "Listener",
    "Ping",
    "Request",
    "Response",
    "Sink",
    "TcpConnection",
    "TcpSettings",
    "TcpState",
    "Timer",
    "UdpSocket",
    "http_get",
]
