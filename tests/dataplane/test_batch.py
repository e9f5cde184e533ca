"""Batches of datagrams from real sockets, and from what a kernel might say."""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Callable, Iterator

import pytest

from appliance_sdk.dataplane import batch as batches
from appliance_sdk.dataplane.batch import Batch, ReceiveBatch, Scratch
from appliance_sdk.dataplane.mmsg import NAME_BYTES, SO_RXQ_OVFL, private_memory


@pytest.fixture
def pair(own_address: Callable[[], str]) -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        one.bind((own_address(), 0))
        other.bind((own_address(), 0))
        other.settimeout(5)
        yield one, other


def _all(batch: Batch, count: int) -> list[bytes]:
    assert list(batch.lengths[:count]) == list(batch.sizes)
    return [
        batch.room.map[offset : offset + size]
        for offset, size in zip(batch.offsets[:count], batch.sizes, strict=True)
    ]


def test_one_call_takes_several_datagrams_of_any_size(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    sender, receiver = pair
    sent = [b"", b"x", bytes(range(256)) * 35, b"last"]
    for payload in sent:
        sender.sendto(payload, receiver.getsockname())
    batch = ReceiveBatch(8, 9216)
    count = batch.receive(receiver.fileno())
    assert _all(batch, count) == sent
    address, port = sender.getsockname()
    expected = port.to_bytes(2, "big") + socket.inet_aton(address)
    assert list(batch.peers[:count]) == [expected] * 4


def test_a_batch_is_used_again(pair: tuple[socket.socket, socket.socket]) -> None:
    sender, receiver = pair
    batch = ReceiveBatch(2, 2048)
    for number in range(5):
        sender.sendto(str(number).encode(), receiver.getsockname())
    taken = []
    while count := batch.receive(receiver.fileno()):
        taken.append(_all(batch, count))
    assert taken == [[b"0", b"1"], [b"2", b"3"], [b"4"]]


def test_nothing_there_is_no_error(pair: tuple[socket.socket, socket.socket]) -> None:
    assert ReceiveBatch(2, 2048).receive(pair[1].fileno()) == 0


def test_a_closed_descriptor_is_an_error() -> None:
    with pytest.raises(OSError) as caught:
        ReceiveBatch(2, 2048).receive(-1)
    assert caught.value.errno == errno.EBADF


@pytest.mark.parametrize(("length", "cut"), [(511, False), (512, False), (513, True)])
def test_a_cut_datagram_is_told_from_one_that_just_fits(
    pair: tuple[socket.socket, socket.socket], length: int, cut: bool
) -> None:
    sender, receiver = pair
    sender.sendto(b"before", receiver.getsockname())
    sender.sendto(bytes(length), receiver.getsockname())
    batch = ReceiveBatch(4, 512)
    assert batch.receive(receiver.fileno()) == 2
    assert batch.sizes[1] == min(length, 512)
    assert [batch.truncated(0), batch.truncated(1)] == [False, cut]


def test_overflow_is_read_from_the_first_datagram(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    sender, receiver = pair
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    receiver.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
    batch = ReceiveBatch(64, 2048)
    sender.sendto(b"x", receiver.getsockname())
    batch.receive(receiver.fileno())
    assert batch.overflow() is None
    for _ in range(100):
        sender.sendto(bytes(500), receiver.getsockname())
    kept = 0
    while count := batch.receive(receiver.fileno()):
        kept += count
    assert 0 < kept < 100
    sender.sendto(b"x", receiver.getsockname())
    batch.receive(receiver.fileno())
    assert batch.overflow() == 100 - kept


def _control(*messages: tuple[int, int, bytes]) -> bytes:
    data = b""
    for level, kind, body in messages:
        data += struct.pack("@Nii", 16 + len(body), level, kind) + body
        data += bytes(-len(data) % 8)
    return data


@pytest.mark.skipif(sys.maxsize < 2**32, reason="written for 64-bit control messages")
@pytest.mark.parametrize(
    ("control", "found"),
    [
        (b"", []),
        (_control((1, 40, b"abcd")), [(1, 40, b"abcd")]),
        (_control((1, 29, bytes(16)), (1, 40, b"abcd")), [(1, 29, bytes(16)), (1, 40, b"abcd")]),
        (_control((1, 40, b"abcd"))[:12], []),
        (_control((1, 40, b"abcd"))[:18], []),
        (struct.pack("@Nii", 3, 1, 40), []),
    ],
)
def test_control_messages(control: bytes, found: list[tuple[int, int, bytes]]) -> None:
    memory = private_memory(64).map
    memory[: len(control)] = control
    told = batches._control_messages(memory, len(control))
    assert [(level, kind, memory[start:end]) for level, kind, start, end in told] == found


@pytest.mark.parametrize("size", [1, 3, 4, 7])
def test_every_count_of_datagrams_has_its_peers(
    pair: tuple[socket.socket, socket.socket], size: int
) -> None:
    sender, receiver = pair
    batch = ReceiveBatch(size, 2048)
    address, port = sender.getsockname()
    expected = port.to_bytes(2, "big") + socket.inet_aton(address)
    for count in range(1, size + 1):
        batch.names.map[:] = bytes(len(batch.names.map))
        for _ in range(count):
            sender.sendto(b"x", receiver.getsockname())
        assert batch.receive(receiver.fileno()) == count
        assert list(batch.peers[:count]) == [expected] * count
        assert len(batch.sizes) == count


def test_a_scratch_holds_what_it_is_given() -> None:
    scratch = Scratch(3, 100)
    for _ in range(2):
        added = [b"one", b"", bytes(100)]
        peers = [b"%06d" % number for number in range(3)]
        assert list(map(scratch.add, peers, added)) == [0, 1, 2]
        assert _all(scratch, 3) == added
        assert scratch.peers == peers
        names = scratch.names.map
        assert [names[at : at + 8] for at in range(0, 3 * NAME_BYTES, NAME_BYTES)] == [
            struct.pack("=H", socket.AF_INET) + peer for peer in peers
        ]
        scratch.clear()
        assert not scratch.sizes
