"""Messages through real sockets."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from appliance_sdk.dataplane.mmsg import NAME_BYTES, Memory, Messages, private_memory


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


def _sockaddr(address: tuple[str, int]) -> Memory:
    host, port = address
    name = private_memory(NAME_BYTES)
    name.map[:8] = (
        struct.pack("=H", socket.AF_INET) + struct.pack(">H", port) + (socket.inet_aton(host))
    )
    return name


def test_messages_are_sent_in_order_from_where_the_bytes_lie(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    sender, receiver = pair
    memory, _view, address = private_memory(4096)
    memory[:6] = b"abcdef"
    name = _sockaddr(receiver.getsockname())
    messages = Messages(3)
    for i in range(3):
        messages.describe(i, name.address, [(address + 2 * i, 2)])
    assert messages.send(sender.fileno(), 0, 3) == 3
    assert messages.send(sender.fileno(), 2, 1) == 1
    messages.lengths[1:3] = memoryview(struct.pack("=2I", 1, 0)).cast("I")
    assert messages.send(sender.fileno(), 1, 2) == 2
    assert [receiver.recv(100) for _ in range(6)] == [b"ab", b"cd", b"ef", b"ef", b"c", b""]


def test_a_failed_send_gives_its_errno(pair: tuple[socket.socket, socket.socket]) -> None:
    sender, receiver = pair
    room = private_memory(1 << 17)
    name = _sockaddr(receiver.getsockname())
    messages = Messages(1)
    messages.describe(0, name.address, [(room.address, 65508)])
    assert messages.send(sender.fileno(), 0, 1) == -errno.EMSGSIZE
    assert messages.send(-1, 0, 1) == -errno.EBADF


def test_pieces_are_put_together(pair: tuple[socket.socket, socket.socket]) -> None:
    sender, receiver = pair
    memory, _view, address = private_memory(4096)
    memory[:8] = b"bodyhead"
    name = _sockaddr(receiver.getsockname())
    messages = Messages(2, 3)
    for i in range(2):
        pieces = [(address + 4, 4), (address, i), (address, 0)]
        messages.describe(i, name.address, pieces)
        messages.lengths[i] = 4
    assert messages.send(sender.fileno(), 0, 2) == 2
    assert [receiver.recv(100), receiver.recv(100)] == [b"headbody", b"headbbody"]


def test_messages_of_several_kinds_are_sent_by_one_call(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    sender, receiver = pair
    memory, _view, address = private_memory(4096)
    memory[:8] = b"abcdefgh"
    name = _sockaddr(receiver.getsockname())
    whole, halves, joined = Messages(8), Messages(8, 2), Messages(16)
    for i in range(8):
        whole.describe(i, name.address, [(address + i, 1)])
        halves.describe(i, name.address, [(address + i, 1), (address, 1)])
    assert joined.copy([(whole, 6, 8), (halves, 3, 4), (whole, 0, 1)]) == 4
    assert joined.send(sender.fileno(), 0, 4) == 4
    assert [receiver.recv(100) for _ in range(4)] == [b"g", b"h", b"da", b"a"]
    assert joined.copy([]) == 0
