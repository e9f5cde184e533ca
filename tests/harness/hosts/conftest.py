"""A wire between hosts that loses, delays, swaps and doubles packets; a peer written by hand."""

from __future__ import annotations

import heapq
import ipaddress
import itertools
import random

import pytest

from appliance_sdk.harness.hosts import Host, TcpSettings
from appliance_sdk.wire import Headers, build_tcp, parse_packet
from appliance_sdk.wire.packet import ACK, SYN

SIDES = {4: ("10.0.0.1", "10.0.0.2"), 6: ("fd00::1", "fd00::2")}


class Network:
    """Two hosts, `client` and `server`, with both IP versions, and what lies between them."""

    def __init__(
        self,
        *,
        seed: int = 1,
        loss: float = 0.0,
        double: float = 0.0,
        jitter_s: float = 0.0,
        tcp: TcpSettings | None = None,
        mtu: int = 1500,
    ) -> None:
        ours, theirs = zip(*SIDES.values(), strict=True)
        self.client = Host("client", ours, seed=seed, tcp=tcp, mtu=mtu)
        self.server = Host("server", theirs, seed=seed, tcp=tcp, mtu=mtu)
        self.hosts = [self.client, self.server]
        self.now = 0.0
        self.sent: list[bytes] = []
        self.cut = False
        self._loss, self._double, self._jitter_s = loss, double, jitter_s
        self._random = random.Random(seed)
        self._order = itertools.count()
        self._flying: list[tuple[float, int, Host, bytes]] = []

    def join(self, name: str, *addresses: str) -> Host:
        """One more host."""
        host = Host(name, addresses, seed=1)
        self.hosts.append(host)
        return host

    def run(self, until: float = 10_000.0, most: int = 100_000) -> None:
        """Until nothing is left to do or `until` has come; at most so many packets: no storm."""
        limit = len(self.sent) + most
        while True:
            for host in self.hosts:
                for packet in host.outbox:
                    self._carry(packet)
                host.outbox.clear()
            assert len(self.sent) < limit, "a packet storm"
            arrival = self._flying[0][0] if self._flying else float("inf")
            due = min(arrival, *(host.next_deadline() for host in self.hosts))
            if due > until:
                self.now = until if until < 10_000.0 else self.now
                return
            self.now = max(self.now, due)
            if arrival <= self.now:
                _, _, host, packet = heapq.heappop(self._flying)
                host.receive(packet, self.now)
            for host in self.hosts:
                host.advance(self.now)

    def _carry(self, packet: bytes) -> None:
        self.sent.append(packet)
        target = str(ipaddress.ip_address(parse_packet(packet, 0, len(packet)).destination))
        copies = 1 + (self._random.random() < self._double)
        for _ in range(copies):
            if self.cut or self._random.random() < self._loss:
                continue
            at = self.now + 0.01 + self._random.random() * self._jitter_s
            for host in self.hosts:
                if target in host.addresses:
                    heapq.heappush(self._flying, (at, next(self._order), host, packet))


class Peer:
    """The other end of one TCP connection of a host, every segment of it written by hand."""

    def __init__(self, *, version: int = 4, tcp: TcpSettings | None = None) -> None:
        host, peer = SIDES[version]
        self.host = Host("host", [host], seed=7, tcp=tcp)
        self.theirs, self.ours = (ipaddress.ip_address(a).packed for a in (host, peer))
        self.port, self.host_port = 80, 0
        self.seq, self.ack = 1000, 0

    def take(self) -> list[Headers]:
        """What the host sent since the last call."""
        self.packets = list(self.host.outbox)
        self.host.outbox.clear()
        return [parse_packet(packet, 0, len(packet)) for packet in self.packets]

    def payloads(self) -> list[bytes]:
        """What the host's segments carried since the last call."""
        headers = self.take()
        return [p[h.payload : h.end] for p, h in zip(self.packets, headers, strict=True)]

    def say(
        self,
        flags: int = ACK,
        payload: bytes = b"",
        *,
        now: float = 0.0,
        seq: int | None = None,
        ack: int | None = None,
        window: int = 65535,
        options: bytes = b"",
    ) -> list[Headers]:
        """Send a segment with the numbers as they stand unless told; what the host answers."""
        packet = build_tcp(
            self.ours,
            self.theirs,
            self.port,
            self.host_port,
            seq=self.seq if seq is None else seq,
            ack=self.ack if ack is None else ack,
            flags=flags,
            window=window,
            payload=payload,
            options=options,
        )
        self.host.receive(packet, now)
        return self.take()

    def answer_syn(self, *, window: int = 65535, options: bytes = b"\x02\x04\x05\x78") -> None:
        """Complete a connection that the host opens."""
        (syn,) = self.take()
        self.host_port, self.ack = syn.source_port, (syn.seq + 1) & 0xFFFFFFFF
        self.say(SYN | ACK, window=window, options=options)
        self.seq += 1


@pytest.fixture(scope="session")
def network() -> type[Network]:
    return Network


@pytest.fixture(scope="session")
def peer() -> type[Peer]:
    return Peer
