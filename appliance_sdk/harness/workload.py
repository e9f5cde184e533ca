"""Work for a load balancer alone, to measure it by: round trips, and a day of short connections."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

from appliance_sdk.errors import HarnessError
from appliance_sdk.harness.balancer import GatewayLoadBalancer
from appliance_sdk.harness.outcomes import ToEndpoint, ToTarget
from appliance_sdk.wire import build_tcp, build_udp
from appliance_sdk.wire.packet import ACK, FIN, PSH, SYN

ENDPOINT = "vpce-0a1b2c3d4e5f60718"
_SERVER = ipaddress.ip_address("10.1.0.1").packed
_CLIENTS = int(ipaddress.ip_address("10.0.0.1"))
_TUPLES = 2000
"""So many clients take turns: at five a second each comes again after the idle timeout."""
_PAUSE_S = 1.0
"""Between two packets of one connection."""


class Work(NamedTuple):
    """What a run did; the same for every run of the same size."""

    packets: int
    """Each went to a target and came back."""
    flows: int
    left: int
    """Flows that were live at the end."""


class RoundTrips:
    """UDP packets of `size` bytes, `flows` flows in turn, each there and back."""

    def __init__(self, packets: int, *, flows: int = 1000, size: int = 512) -> None:
        self._packets = packets
        payload = bytes(size - 28)
        self._flows = [
            build_udp(_client(n), _SERVER, 1024 + n % 60000, 53, payload=payload)
            for n in range(flows)
        ]

    def run(self) -> Work:
        """Send them all."""
        gateway = _gateway()
        for number in range(self._packets):
            packet = self._flows[number % len(self._flows)]
            _there_and_back(gateway, packet, number * 1e-5)
        return _work(gateway)


class Connections:
    """`hours` of TCP connections, `per_second` new ones, of six packets from SYN to the last ACK.

    The load balancer's clock is advanced whenever it says that something is due.
    """

    def __init__(self, hours: float, *, per_second: float = 5.0) -> None:
        self._count = round(hours * 3600 * per_second)
        self._interval_s = 1 / per_second
        self._lives = [_life(n) for n in range(min(_TUPLES, self._count))]

    def run(self) -> Work:
        """Let them all live and end."""
        gateway = _gateway()
        lives, interval_s = self._lives, self._interval_s
        later = max(round(_PAUSE_S / interval_s), 1)
        for turn in range(self._count + 5 * later):
            now = turn * interval_s
            while (due := gateway.next_deadline()) <= now:
                gateway.advance(due)
            for stage in range(6):
                number = turn - stage * later
                if 0 <= number < self._count:
                    _there_and_back(gateway, lives[number % len(lives)][stage], now)
        return _work(gateway)


def _gateway() -> GatewayLoadBalancer:
    gateway = GatewayLoadBalancer({"a": "10.9.0.11"})
    gateway.add_endpoint(ENDPOINT, "a")
    for name, address in (("one", "10.9.0.21"), ("two", "10.9.0.22")):
        gateway.register(name, address, "a", 0.0)
        for _ in range(gateway.settings.health_check.healthy_threshold):
            gateway.probed(name, "a", "", 0.0)
    return gateway


def _there_and_back(gateway: GatewayLoadBalancer, packet: bytes, now: float) -> None:
    sent = gateway.from_endpoint(ENDPOINT, packet, now)
    if not isinstance(sent, ToTarget):
        raise HarnessError(f"the benchmark's packet was not sent on: {sent}")
    source = sent.target.address, sent.source_port
    returned = gateway.from_target(source, (sent.node, 6081), sent.payload, now)
    if not isinstance(returned, ToEndpoint):
        raise HarnessError(f"the benchmark's packet was not taken back: {returned.explanation}")


def _work(gateway: GatewayLoadBalancer) -> Work:
    zone = gateway.zones["a"]
    return Work(zone.packets // 2, zone.new_flows, len(gateway.flows))


def _client(number: int) -> bytes:
    return (_CLIENTS + number).to_bytes(4, "big")


def _life(number: int) -> list[bytes]:
    """A question and an answer: 100 bytes there, 1,000 back."""
    client, port = _client(number), 1024 + number
    there = [(0, 0, SYN, 0), (1, 501, ACK | PSH, 100), (101, 1502, FIN | ACK, 0)]
    back = [(500, 1, SYN | ACK, 0), (501, 101, FIN | ACK | PSH, 1000), (1502, 102, ACK, 0)]
    packets = []
    for (seq, ack, flags, size), (seq_b, ack_b, flags_b, size_b) in zip(there, back, strict=True):
        packets.append(
            build_tcp(
                client, _SERVER, port, 443, seq=seq, ack=ack, flags=flags, payload=bytes(size)
            )
        )
        packets.append(
            build_tcp(
                _SERVER,
                client,
                443,
                port,
                seq=seq_b,
                ack=ack_b,
                flags=flags_b,
                payload=bytes(size_b),
            )
        )
    return packets
