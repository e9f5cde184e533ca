"""One bound socket for each source port: which are made, kept, refused and given up."""

from __future__ import annotations

import resource
import socket
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from appliance_sdk.dataplane.outgoing import Outgoing
from appliance_sdk.dataplane.port_replies import PortReplies
from appliance_sdk.dataplane.ports import RETRY_BIND_S, Ports, descriptor_room
from appliance_sdk.dataplane.replies import Sender


class Sending:
    """What is sent through ports, and the ports."""

    def __init__(self, ports: Ports, errors: Counter[str]) -> None:
        self.ports = ports
        self.sender = Sender(errors)
        self.replies = PortReplies(ports, self.sender)
        self._outgoing = Outgoing(self.replies, errors, (), 16, 9216)
        self.add = self._outgoing.add
        self.flush = self._outgoing.flush
        self.close = self.replies.close

    @property
    def open_ports(self) -> int:
        return len(self.ports)

    @property
    def unbindable_ports(self) -> int:
        return self.replies.unbindable_ports


class Bench:
    """Port replies from one address to one node that listens."""

    def __init__(self, local: str, node: str) -> None:
        self.local = local
        self.now = 1000.0
        self.errors: Counter[str] = Counter()
        self.node = node
        self.hears = self.listen(node)

    def listen(self, node: str) -> socket.socket:
        hears = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        hears.bind((node, 6081))
        hears.setblocking(False)
        return hears

    def replies(
        self,
        capacity: int = 8,
        owned: dict[bytes, socket.socket] | None = None,
        shared: bool = False,
    ) -> Sending:
        ports = Ports(
            self.errors,
            owned=owned or {},
            capacity=capacity,
            shared=shared,
            clock=lambda: self.now,
        )
        return Sending(ports, self.errors)

    def add(self, replies: Sending, port: int, letter: int = 0, node: str = "") -> None:
        peer = port.to_bytes(2, "big") + socket.inet_aton(node or self.node)
        replies.add(peer, socket.inet_aton(self.local), bytes([97 + letter]))

    def heard(self) -> list[tuple[bytes, int]]:
        found = []
        try:
            while True:
                data, (address, port) = self.hears.recvfrom(100)
                assert address == self.local
                found.append((data, port))
        except BlockingIOError:
            return found


@pytest.fixture
def bench(own_address: Callable[[], str]) -> Iterator[Bench]:
    made = Bench(own_address(), own_address())
    yield made
    made.hears.close()


def test_each_reply_leaves_from_its_own_port_in_order(bench: Bench) -> None:
    replies = bench.replies()
    for letter in range(12):  # more for one port than a batch holds
        bench.add(replies, 20001 if letter % 4 else 20002, letter)
    replies.flush()
    heard = bench.heard()
    assert [data for data, port in heard if port == 20001] == [
        bytes([97 + n]) for n in range(12) if n % 4
    ]
    assert [data for data, port in heard if port == 20002] == [b"a", b"e", b"i"]
    assert replies.open_ports == 2
    replies.close()


def test_nothing_is_sent_before_the_flush_and_nothing_twice(bench: Bench) -> None:
    replies = bench.replies()
    bench.add(replies, 20001)
    assert bench.heard() == []
    replies.flush()
    replies.flush()
    assert bench.heard() == [(b"a", 20001)]
    replies.close()


def test_the_least_recently_used_port_goes_first(bench: Bench) -> None:
    replies = bench.replies(capacity=2)
    for port in (20001, 20002, 20001, 20003):
        bench.add(replies, port)
        replies.flush()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((bench.local, 20002))  # free again
    for port in (20001, 20003):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, pytest.raises(OSError):
            probe.bind((bench.local, port))
    assert replies.open_ports == 2
    assert len(bench.heard()) == 4
    replies.close()


def test_one_flush_may_use_more_ports_than_there_is_room_for(bench: Bench) -> None:
    replies = bench.replies(capacity=3)
    for port in range(20000, 20020):
        bench.add(replies, port)
    replies.flush()
    assert [port for _data, port in bench.heard()] == list(range(20000, 20020))
    assert replies.open_ports == 3
    replies.close()


def test_a_port_that_is_taken_is_counted_with_its_packets(bench: Bench) -> None:
    replies = bench.replies()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((bench.local, 20001))
        for port in (20001, 20001, 20002):
            bench.add(replies, port)
        replies.flush()
    assert bench.heard() == [(b"a", 20002)]
    assert replies.unbindable_ports == 1
    assert bench.errors == {"EADDRINUSE": 2}
    replies.close()


def test_a_refused_port_is_tried_again_later(bench: Bench) -> None:
    replies = bench.replies()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((bench.local, 20001))
        bench.add(replies, 20001)
        replies.flush()
    bench.add(replies, 20001)
    replies.flush()
    assert bench.errors == {"EADDRINUSE": 2}
    bench.now += RETRY_BIND_S
    bench.add(replies, 20001)
    replies.flush()
    assert bench.heard() == [(b"a", 20001)]
    assert replies.unbindable_ports == 0
    replies.close()


def test_a_port_is_not_taken_from_under_a_program_that_would_share_it(bench: Bench) -> None:
    replies = bench.replies()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind((bench.local, 20001))
        bench.add(replies, 20001)
        replies.flush()
    assert replies.unbindable_ports == 1
    replies.close()


def test_port_0_cannot_be_bound(bench: Bench) -> None:
    replies = bench.replies()
    bench.add(replies, 0)
    replies.flush()
    assert bench.heard() == []
    assert replies.unbindable_ports == 1
    assert bench.errors == {"EADDRNOTAVAIL": 1}


def test_a_socket_that_exists_is_used_and_left_open(bench: Bench) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind((bench.local, 20001))
        key = (20001).to_bytes(2, "big") + socket.inet_aton(bench.local)
        replies = bench.replies(owned={key: listener})
        bench.add(replies, 20001)
        replies.flush()
        replies.close()
        assert bench.heard() == [(b"a", 20001)]
        assert listener.getsockname() == (bench.local, 20001)


def test_reply_sockets_receive_nothing(bench: Bench) -> None:
    replies = bench.replies()
    bench.add(replies, 20001)
    replies.flush()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"for nobody", (bench.local, 20001))
    local = socket.inet_aton(bench.local)
    port = replies.ports.get((20001).to_bytes(2, "big") + local, local, 1)
    assert port is not None
    sock = port.sock
    with pytest.raises(BlockingIOError):
        sock.recv(100)
    replies.close()


def test_two_workers_share_a_port_when_told(bench: Bench) -> None:
    workers = [bench.replies(shared=True), bench.replies(shared=True)]
    for letter, replies in enumerate(workers):
        bench.add(replies, 20001, letter)
        replies.flush()
    assert bench.heard() == [(b"a", 20001), (b"b", 20001)]
    for replies in workers:
        replies.close()


def test_a_port_serves_every_node(bench: Bench, own_address: Callable[[], str]) -> None:
    second = own_address()
    with bench.listen(second) as hears:
        replies = bench.replies()
        for letter in range(6):  # each in a flush of its own, and then all of them in one
            bench.add(replies, 20001, letter, node=second if letter % 2 else "")
            replies.flush()
        for letter in range(6, 12):
            bench.add(replies, 20001, letter, node=second if letter % 2 else "")
        replies.flush()
        assert bench.heard() == [(bytes([97 + n]), 20001) for n in range(0, 12, 2)]
        assert [hears.recv(9) for _ in range(6)] == [bytes([97 + n]) for n in range(1, 12, 2)]
    assert replies.open_ports == 1
    assert replies.sender.sent == 12
    assert not bench.errors
    replies.close()


def test_a_node_that_was_not_there_hears_what_comes_next(
    bench: Bench, own_address: Callable[[], str]
) -> None:
    replies = bench.replies()
    late = own_address()
    for letter in range(3):  # answered with ICMP errors: no reason to lose anything later
        bench.add(replies, 20001, letter, node=late)
        replies.flush()
    with bench.listen(late) as hears:
        bench.add(replies, 20001, 3, node=late)
        replies.flush()
        assert hears.recv(9) == b"d"
    replies.close()


def test_what_a_socket_does_not_take_is_counted_and_the_next_is_tried(bench: Bench) -> None:
    replies = bench.replies()
    bench.add(replies, 20001)
    replies.flush()
    broadcast = "255.255.255.255"  # refused with EACCES, or without a route
    for port in (20001, 20002, 20001):
        bench.add(replies, port, node=broadcast)
        bench.add(replies, port, 1)
        replies.flush()
    assert bench.heard() == [(b"a", 20001), (b"b", 20001), (b"b", 20002), (b"b", 20001)]
    assert bench.errors.total() == 3
    assert replies.sender.sent == 4
    replies.close()


def test_a_port_that_was_given_up_is_bound_again(bench: Bench) -> None:
    replies = bench.replies(capacity=1)
    for port in (20001, 20002, 20001, 20001):
        bench.add(replies, port)
        replies.flush()
    assert [port for _data, port in bench.heard()] == [20001, 20002, 20001, 20001]
    assert not bench.errors
    replies.close()


@pytest.fixture
def few_descriptors() -> Iterator[Callable[[int], None]]:
    """Leaves room for so many more descriptors in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def limit(room: int) -> None:
        with socket.socket() as next_one:
            resource.setrlimit(resource.RLIMIT_NOFILE, (next_one.fileno() + room, hard))

    yield limit
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_at_the_descriptor_limit_the_oldest_port_makes_room(
    bench: Bench, few_descriptors: Callable[[int], None]
) -> None:
    replies = bench.replies(capacity=1000)
    few_descriptors(3)
    for port in range(20000, 20010):
        bench.add(replies, port)
    replies.flush()
    assert len(bench.heard()) == 10
    assert 1 <= replies.open_ports <= 3
    assert not bench.errors
    replies.close()


def test_without_a_single_descriptor_packets_are_counted_and_the_port_is_not_blamed(
    bench: Bench, few_descriptors: Callable[[int], None]
) -> None:
    replies = bench.replies()
    few_descriptors(0)
    bench.add(replies, 20001)
    replies.flush()
    assert bench.errors == {"EMFILE": 1}
    assert replies.unbindable_ports == 0


def test_room_is_what_the_limit_leaves() -> None:
    before = descriptor_room()
    held = [socket.socket() for _ in range(5)]
    after = descriptor_room()
    for sock in held:
        sock.close()
    assert before - after == 5
