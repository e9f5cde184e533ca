"""Both directions of a flow, and what belongs to it, come to one worker, the kernel's choice."""

from __future__ import annotations

import random
import select
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import pytest

from appliance_sdk.conformance.encapsulation import header, option
from appliance_sdk.conformance.packets import with_extensions, with_options
from appliance_sdk.dataplane.addresses import open_groups
from appliance_sdk.dataplane.cbpf import run
from appliance_sdk.dataplane.selector import selector
from appliance_sdk.wire import build_geneve, build_icmp, build_ip, build_tcp, build_udp
from appliance_sdk.wire.packet import ACK

WORKERS = 4
PROGRAM = selector(WORKERS, 20)


class Group:
    """The sockets of four workers on one address, and somebody who sends to it."""

    def __init__(self, address: str) -> None:
        opened = open_groups([address], 6081, WORKERS, PROGRAM)
        self.sockets = [listeners[0] for listeners in opened]
        self._place = address, 6081
        self._sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def of(self, datagram: bytes) -> int:
        """The worker that the kernel gives a datagram."""
        self._sender.sendto(datagram, self._place)
        # On a busy machine delivery may be left to another thread of the kernel.
        ready, _, _ = select.select(self.sockets, [], [], 10)
        assert len(ready) == 1
        ready[0].recv(65535)
        return self.sockets.index(ready[0])

    def close(self) -> None:
        for sock in (*self.sockets, self._sender):
            sock.close()


@pytest.fixture
def group(own_address: Callable[[], str]) -> Iterator[Group]:
    made = Group(own_address())
    yield made
    made.close()


def datagram(inner: bytes, words: int = 8) -> bytes:
    """GWLB's header around a packet, with more options up to so many words."""
    usual = build_geneve(7, 8, ethertype=0x0800 if inner[0] >> 4 == 4 else 0x86DD)
    if words == 8:
        return usual + inner
    more = []
    left = words - 8
    while left:
        size = min(left, 32)
        more.append(option(9, bytes(4 * size - 4), option_class=0xFFFE))
        left -= size
    ethertype = int.from_bytes(usual[2:4], "big")
    return header([usual[8:], *more], ethertype=ethertype) + inner


def ends(chance: random.Random, ipv6: bool) -> tuple[bytes, bytes, int, int]:
    """Addresses close to each other, as in one VPC, and ports."""
    if ipv6:
        net = bytes.fromhex("20010db8000000010000000000000000")
        pair = net[:14] + chance.randbytes(2), net[:10] + chance.randbytes(6)
    else:
        pair = b"\x0a\0" + chance.randbytes(2), b"\x0a\0\x01" + chance.randbytes(1)
    return *pair, chance.randrange(1024, 65536), chance.choice((22, 53, 80, 443))


@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
def test_ten_thousand_flows_and_none_is_split(group: Group, ipv6: bool) -> None:
    chance = random.Random(1)
    split = 0
    share: Counter[int] = Counter()
    for number in range(10_000):
        a, b, sport, dport = ends(chance, ipv6)
        words = (8, 16, 32, 63)[number % 4]
        there = build_tcp(a, b, sport, dport, flags=ACK)
        back = build_tcp(b, a, dport, sport, flags=ACK)
        one, other = datagram(there, words), datagram(back)
        worker = group.of(one)
        split += worker != group.of(other)
        assert run(PROGRAM, one, 0, len(one)) == worker
        share[worker] += 1
    assert not split
    assert max(share.values()) < 1.3 * 10_000 / WORKERS


def test_ip_options_and_extension_headers_do_not_hide_ports(group: Group) -> None:
    chance = random.Random(2)
    for _ in range(200):
        a, b, sport, dport = ends(chance, False)
        plain = build_udp(a, b, sport, dport, payload=b"x")
        optional = with_options(plain, b"\x01" * chance.choice((4, 8, 40)))
        assert group.of(datagram(plain)) == group.of(datagram(optional))
        a, b, sport, dport = ends(chance, True)
        plain = build_udp(a, b, sport, dport, payload=b"x")
        chain = _chain(chance.randrange(1, 16))
        longer = with_extensions(plain, 60, chain)
        assert group.of(datagram(plain)) == group.of(datagram(longer))


def _chain(count: int) -> bytes:
    """Destination options of eight or sixteen bytes, UDP behind the last."""
    one, two = bytes((1, 4, 0, 0, 0, 0)), bytes((1, 12)) + bytes(12)
    parts = [(bytes((60, 0)) + one, bytes((60, 1)) + two)[i % 2] for i in range(count)]
    return b"".join(parts)[: -len(parts[-1])] + b"\x11" + parts[-1][1:]


def test_an_icmp_error_comes_to_the_flow_that_it_quotes(group: Group) -> None:
    chance = random.Random(3)
    for _ in range(200):
        for ipv6, kinds in ((False, (3, 11, 12, 4, 5)), (True, (1, 2, 3, 4))):
            a, b, sport, dport = ends(chance, ipv6)
            packet = build_udp(a, b, sport, dport, payload=b"quoted")
            router = chance.randbytes(len(a))
            error = build_icmp(router, a, chance.choice(kinds), 0, bytes(4) + packet[:68])
            assert group.of(datagram(packet)) == group.of(datagram(error))


def test_an_echo_and_its_answer_meet_whatever_their_numbers(group: Group) -> None:
    chance = random.Random(4)
    for _ in range(100):
        a, b, _, _ = ends(chance, False)
        workers = {
            group.of(datagram(build_icmp(a, b, 8, 0, chance.randbytes(20)))),
            group.of(datagram(build_icmp(b, a, 0, 0, chance.randbytes(20)))),
        }
        assert len(workers) == 1


def test_all_fragments_of_a_datagram_meet(group: Group) -> None:
    chance = random.Random(5)
    for _ in range(100):
        a, b, _, _ = ends(chance, False)
        first = build_ip(a, b, 17, chance.randbytes(64))
        flags = [0x2000, 0x2008, 0x0010]
        pieces = [first[:6] + struct.pack(">H", word) + first[8:] for word in flags]
        assert len({group.of(datagram(piece)) for piece in pieces}) == 1


def test_an_atomic_fragment_is_a_whole_packet(group: Group) -> None:
    chance = random.Random(6)
    for _ in range(100):
        a, b, sport, dport = ends(chance, True)
        plain = build_udp(a, b, sport, dport, payload=b"x")
        atomic = with_extensions(plain, 44, bytes((17, 0, 0, 0)) + chance.randbytes(4))
        assert group.of(datagram(plain)) == group.of(datagram(atomic))


def test_what_cannot_be_read_comes_to_the_first_worker(group: Group) -> None:
    whole = datagram(build_udp(b"\x0a\0\0\x01", b"\x0a\0\0\x02", 1, 2, payload=b""))
    unreadable: Sequence[bytes] = [b"", b"\x08", whole[:7], whole[:40], whole[:50], whole[:61]]
    assert {group.of(one) for one in unreadable} == {0}
    assert group.of(whole[:40] + b"\x75" + whole[41:]) == 0
    assert group.of(b"\xff" * 300) == 0


def test_garbage_gets_the_same_answer_from_the_kernel_and_from_python(group: Group) -> None:
    chance = random.Random(7)
    base = [datagram(build_udp(*ends(chance, six), payload=b"x")) for six in (False, True)]
    for _ in range(3000):
        packet = bytearray(chance.choice(base))
        for _ in range(chance.randrange(1, 6)):
            packet[chance.randrange(len(packet))] = chance.choice((0, 44, 60, 1, 58, 0x60, 255))
        cut = bytes(packet[: chance.randrange(len(packet) + 1)])
        assert group.of(cut) == run(PROGRAM, cut, 0, len(cut))


def test_another_seed_chooses_otherwise() -> None:
    chance = random.Random(8)
    packets = [datagram(build_udp(*ends(chance, False), payload=b"")) for _ in range(500)]
    other = selector(WORKERS, 21)
    same = sum(run(PROGRAM, p, 0, len(p)) == run(other, p, 0, len(p)) for p in packets)
    assert 75 < same < 175  # a quarter
