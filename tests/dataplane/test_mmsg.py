"""Batches of datagrams against real sockets, and against what a kernel might say."""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Callable, Iterator

import pytest

from appliance_sdk.dataplane import mmsg
from appliance_sdk.dataplane.mmsg import SO_RXQ_OVFL, ReceiveBatch, SendBatch, private_memory


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


def _all(batch: ReceiveBatch, count: int) -> list[bytes]:
    return [
        batch.room.map[offset : offset + batch.lengths[length_at]]
        for offset, length_at, _name in batch.slots[:count]
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
    assert [batch.names[at : at + 6] for _o, _l, at in batch.slots[:count]] == [expected] * 4


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
    assert batch.lengths[batch.slots[1][1]] == min(length, 512)
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
    told = mmsg._control_messages(memory, len(control))
    assert [(level, kind, memory[start:end]) for level, kind, start, end in told] == found


def test_slots_are_sent_in_order_from_where_the_bytes_lie(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    sender, receiver = pair
    memory, _view, address = private_memory(4096)
    memory[:6] = b"abcdef"
    host, port = receiver.getsockname()
    batch = SendBatch(3)
    for slot in range(3):
        batch.put(slot, port.to_bytes(2, "big"), socket.inet_aton(host), address + 2 * slot, 2)
    assert batch.send(sender.fileno(), 0, 3) == 3
    assert batch.send(sender.fileno(), 2, 1) == 1
    assert [receiver.recv(100) for _ in range(4)] == [b"ab", b"cd", b"ef", b"ef"]


def test_a_failed_send_gives_its_errno(pair: tuple[socket.socket, socket.socket]) -> None:
    sender, receiver = pair
    room = private_memory(1 << 17)
    host, port = receiver.getsockname()
    batch = SendBatch(1)
    batch.put(0, port.to_bytes(2, "big"), socket.inet_aton(host), room.address, 65508)
    assert batch.send(sender.fileno(), 0, 1) == -errno.EMSGSIZE
    assert batch.send(-1, 0, 1) == -errno.EBADF


def test_prefixes_are_sent_before_the_bytes(pair: tuple[socket.socket, socket.socket]) -> None:
    sender, receiver = pair
    memory, _view, address = private_memory(4096)
    memory[:4] = b"body"
    host, port = receiver.getsockname()
    batch = SendBatch(2, prefix_bytes=5)
    for slot, prefix in enumerate((b"one: ", b"two: ")):
        batch.prefixes[slot * 32 : slot * 32 + 5] = prefix
        batch.put(slot, port.to_bytes(2, "big"), socket.inet_aton(host), address, 4)
    assert batch.send(sender.fileno(), 0, 2) == 2
    assert [receiver.recv(100), receiver.recv(100)] == [b"one: body", b"two: body"]
