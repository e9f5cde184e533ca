"""Fragments find the worker of their flow, wherever they landed."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator

import pytest

from appliance_sdk.conformance.packets import numbered
from appliance_sdk.dataplane.cbpf import run
from appliance_sdk.dataplane.handover import Handover, inbox_pair
from appliance_sdk.dataplane.selector import selector
from appliance_sdk.wire import build_geneve, build_udp, fragment_packet, parse_packet

PROGRAM = selector(3, 4)
PEER, LOCAL = b"\xee\x48\x0a\x09\x00\x0b", b"\x0a\x09\x01\x15"
GENEVE = build_geneve(7, 8)


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    made = [inbox_pair() for _ in range(3)]
    yield made
    for pair in made:
        for sock in pair:
            sock.close()


class Fragments:
    """A packet in pieces, each in its own encapsulation."""

    def __init__(self, number: int, ipv6: bool = False) -> None:
        ends = (16, 4)[not ipv6]
        chance = random.Random(number)
        whole = build_udp(
            chance.randbytes(ends), chance.randbytes(ends), 1024 + number, 53, payload=bytes(3000)
        )
        self.header = build_geneve(7, 8, ethertype=0x86DD if ipv6 else 0x0800)
        self.owner = run(PROGRAM, self.header + whole, 0, len(self.header + whole))
        pieces = fragment_packet(whole if ipv6 else numbered(whole, number), 1280)
        self.datagrams = [self.header + piece for piece in pieces]
        self.hub = run(PROGRAM, self.datagrams[1], 0, len(self.datagrams[1]))


def divert(handover: Handover, datagram: bytes, now: float = 0.0) -> bool:
    headers = parse_packet(datagram, 40, len(datagram))
    return handover.divert(7, headers, datagram, (PEER, LOCAL, 0, 40, len(datagram)), now)


@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
def test_every_fragment_reaches_the_worker_that_the_whole_packet_would(
    pairs: list[tuple[socket.socket, socket.socket]], ipv6: bool
) -> None:
    writers = [writer for _, writer in pairs]
    workers = [Handover(n, PROGRAM, pairs[n][0], writers) for n in range(3)]
    moved = 0
    for number in range(60):
        packet = Fragments(number, ipv6)
        hub = workers[packet.hub]
        there = [divert(hub, datagram) for datagram in packet.datagrams]
        if packet.owner == packet.hub:
            assert there == [False] * len(packet.datagrams)
            continue
        moved += 1
        assert there == [True] * len(packet.datagrams)
        taken = list(workers[packet.owner].take())
        assert taken == [(PEER, LOCAL, datagram) for datagram in packet.datagrams]
        # What was handed over is not handed on.
        assert not any(divert(workers[packet.owner], payload) for _, _, payload in taken)
    assert moved > 20
    assert sum(worker.handed_over for worker in workers) == moved * len(packet.datagrams)


def foreign() -> Fragments:
    return next(p for n in range(100) if (p := Fragments(n)).owner != p.hub)


def test_what_comes_before_the_first_fragment_stays(
    pairs: list[tuple[socket.socket, socket.socket]],
) -> None:
    packet = foreign()
    handover = Handover(packet.hub, PROGRAM, pairs[packet.hub][0], [w for _, w in pairs])
    assert not divert(handover, packet.datagrams[1])
    assert divert(handover, packet.datagrams[0])
    assert divert(handover, packet.datagrams[1])
    assert not divert(handover, packet.datagrams[2], now=61.0)  # nobody waits for it any more


def test_a_worker_that_takes_nothing_costs_the_others_nothing(
    pairs: list[tuple[socket.socket, socket.socket]],
) -> None:
    packet = foreign()
    handover = Handover(packet.hub, PROGRAM, pairs[packet.hub][0], [w for _, w in pairs])
    for _ in range(20_000):
        divert(handover, packet.datagrams[0])
    assert handover.lost
    assert handover.handed_over + handover.lost == 20_000
    assert len(list(pairs[packet.owner][0].recv(1))) == 1


def test_the_table_of_owners_is_bounded(pairs: list[tuple[socket.socket, socket.socket]]) -> None:
    handover = Handover(0, PROGRAM, pairs[0][0], [w for _, w in pairs])
    for number in range(5000):
        divert(handover, Fragments(number).datagrams[0], now=number / 1000)
    assert len(handover._owners) <= 4097
