"""Flows of many kinds from a seed, for the reference firewall with the policy of the conformance
suite: what one data plane makes of them, another must make of them too."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address
from typing import NamedTuple

from appliance_sdk.conformance.packets import numbered
from appliance_sdk.wire.build import build_icmp, build_ip, build_tcp, build_udp, fragment_packet
from appliance_sdk.wire.geneve import Option, build_geneve, parse_endpoint
from appliance_sdk.wire.packet import ACK, FIN, PSH, RST, SYN

SOURCE_PORTS = range(20_001, 20_017)
_OTHER_ZONE = parse_endpoint("vpce-0ffeeddccbbaa9988")


class Ends(NamedTuple):
    """Packed addresses and the client's port."""

    client: bytes
    server: bytes
    port: int
    rng: random.Random

    @property
    def ipv6(self) -> bool:
        return len(self.client) == 16


def tcp(ends: Ends, server_port: int, *, reset: bool = False) -> Iterator[bytes]:
    """A connection with data both ways, some of it sent twice or in the wrong order."""
    client, server, port, rng = ends
    there, back = (client, server, port, server_port), (server, client, server_port, port)
    seq, ack = rng.randrange(1 << 32), rng.randrange(1 << 32)

    def said(flags: int, data: bytes = b"", at: int = 0) -> bytes:
        acked = ack if flags & ACK else 0
        return build_tcp(*there, seq=seq + at, ack=acked, flags=flags, payload=data)

    def answered(flags: int, data: bytes = b"", at: int = 0) -> bytes:
        return build_tcp(*back, seq=ack + at, ack=seq, flags=flags, payload=data)

    yield said(SYN)
    seq += 1
    yield answered(SYN | ACK)
    ack += 1
    yield said(ACK)
    for _ in range(rng.randrange(1, 4)):
        first, second = (rng.randbytes(rng.randrange(1, 600)) for _ in range(2))
        pieces = [said(ACK | PSH, first), said(ACK | PSH, second, len(first))]
        pieces = rng.choice([pieces, pieces[::-1], [pieces[0], *pieces]])
        yield from pieces
        seq += len(first + second)
        reply = rng.randbytes(rng.randrange(1, 1400))
        yield answered(ACK | PSH, reply)
        ack += len(reply)
        yield said(ACK)
    if reset:
        yield rng.choice([said, answered])(RST | ACK)
        return
    yield said(FIN | ACK)
    seq += 1
    yield answered(FIN | ACK)
    ack += 1
    yield said(ACK)


def udp(ends: Ends, server_port: int, *, size: int = 100) -> Iterator[bytes]:
    """Questions and answers."""
    client, server, port, rng = ends
    for _ in range(rng.randrange(1, 4)):
        yield build_udp(client, server, port, server_port, payload=rng.randbytes(size))
        yield build_udp(server, client, server_port, port, payload=rng.randbytes(2 * size))


def fragments(ends: Ends) -> Iterator[bytes]:
    """The same with long datagrams in pieces, in any order."""
    for packet in udp(ends, 53, size=1500):
        number = ends.rng.randrange(1, 1 << 16)
        whole = packet if ends.ipv6 else numbered(packet, number)
        pieces = fragment_packet(whole, ends.rng.choice([576, 1280, 1500]))
        if ends.ipv6:
            pieces = [one[:44] + number.to_bytes(4, "big") + one[48:] for one in pieces]
        if ends.rng.random() < 0.3:
            pieces = pieces[::-1]
        yield from pieces


def refused_by_server(ends: Ends) -> Iterator[bytes]:
    """A question, and the server's ICMP error about it."""
    (question, *_) = udp(ends, 53)
    yield question
    kind, code = (1, 4) if ends.ipv6 else (3, 3)
    yield build_icmp(ends.server, ends.client, kind, code, bytes(4) + question[:100])


def ping(ends: Ends) -> Iterator[bytes]:
    """Echo requests and replies."""
    ask, reply = (128, 129) if ends.ipv6 else (8, 0)
    for number in range(ends.rng.randrange(1, 4)):
        body = ends.port.to_bytes(2, "big") + number.to_bytes(2, "big") + ends.rng.randbytes(32)
        yield build_icmp(ends.client, ends.server, ask, 0, body)
        yield build_icmp(ends.server, ends.client, reply, 0, body)


def midstream(ends: Ends) -> Iterator[bytes]:
    """A connection whose beginning nobody has seen."""
    yield from list(tcp(ends, 443))[4:]


def knocks(ends: Ends, server_port: int) -> Iterator[bytes]:
    """The same SYN three times."""
    (syn, *_) = tcp(ends, server_port)
    yield from [syn] * 3


def malformed(ends: Ends) -> Iterator[bytes]:
    """Packets with something wrong."""
    for packet in tcp(ends, 443):
        broken = bytearray(packet)
        match ends.rng.randrange(4):
            case 0:
                del broken[ends.rng.randrange(len(broken)) :]
            case 1:
                broken[0] = ends.rng.randrange(256)
            case 2:
                broken[10] ^= 0x55  # IPv4: the header's checksum
            case _:
                broken[ends.rng.randrange(len(broken))] ^= 1 << ends.rng.randrange(8)
        yield bytes(broken)


def other_protocol(ends: Ends) -> Iterator[bytes]:
    """GRE."""
    yield build_ip(ends.client, ends.server, 47, ends.rng.randbytes(60))


KINDS: tuple[Callable[[Ends], Iterable[bytes]], ...] = (
    lambda ends: tcp(ends, 443),
    lambda ends: tcp(ends, 80, reset=True),
    lambda ends: udp(ends, 53),
    fragments,
    refused_by_server,
    ping,
    midstream,
    lambda ends: knocks(ends, 23),
    lambda ends: knocks(ends, 25),
    lambda ends: udp(ends, 69),
    malformed,
    other_protocol,
)


class Sent(NamedTuple):
    """One datagram of GWLB, and the outer source port that it has."""

    source_port: int
    payload: bytes


def seeded_flows(seed: int, count: int = 180) -> list[list[Sent]]:
    """The datagrams of each flow, in the order in which its ends say them.

    Each has a client of its own: ICMP between the same two hosts is one flow, and with several
    workers one in each that has a flow which the errors quote.
    """
    rng = random.Random(seed)
    flows = []
    for number in range(count):
        ipv6 = rng.random() < 0.4
        usual, closed, blocked = (rng.random() < share for share in (0.8, 0.5, 0.1))
        if ipv6:
            server = "2001:db8:2::10" if usual else f"2001:db8:2:{2 if closed else 1}::1"
            client = f"2001:db8:1:{'bad' if blocked else 0}::{1 + number:x}"
        else:
            server = "203.0.113.20" if usual else f"203.0.113.{8 if closed else 130}"
            client = f"192.0.2.{192 + number % 60 if blocked else 1 + number}"
        ends = Ends(ip_address(client).packed, ip_address(server).packed, 10_000 + number, rng)
        endpoint = _OTHER_ZONE if rng.random() < 0.1 else 1
        extra = [Option(0x0102, 5, bytes(8))] if rng.random() < 0.2 else []
        header = build_geneve(endpoint, number, ethertype=0x86DD if ipv6 else 0x0800, extra=extra)
        port = SOURCE_PORTS[number % len(SOURCE_PORTS)]
        kind = KINDS[number % len(KINDS)]
        flows.append([Sent(port, header + packet) for packet in kind(ends)])
    flows.append([Sent(SOURCE_PORTS[0], rng.randbytes(size)) for size in range(40)])
    return flows


def rounds(flows: list[list[Sent]], at_once: int = 24) -> Iterator[list[Sent]]:
    """Turns of some flows side by side, one datagram of each: a host waits for its answer."""
    for first in range(0, len(flows), at_once):
        some = flows[first : first + at_once]
        for turn in range(max(map(len, some))):
            yield [flow[turn] for flow in some if turn < len(flow)]
