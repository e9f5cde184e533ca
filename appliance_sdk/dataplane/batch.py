"""Datagrams side by side in memory that is made once: received ones, and ones of our own."""

from __future__ import annotations

import ctypes
import mmap
import socket
import struct
import sys
from collections.abc import Iterator, Sequence

from appliance_sdk.dataplane.mmsg import NAME_BYTES, SO_RXQ_OVFL, Messages, private_memory

_CONTROL_BYTES = 64
_CMSG = struct.Struct("@Nii")
_CMSG_ALIGN = ctypes.sizeof(ctypes.c_size_t)
_FAMILY = struct.Struct("=H")


class Batch:
    """Room for `size` datagrams of up to `stride` bytes.

    Datagram i stands in `room` from `offsets[i]` on and is `sizes[i]` bytes long; `peers[i]` is the
    port and address of the other end, six bytes. The same for the kernel: `lengths[i]`, and a
    sockaddr_in each in `names`.
    """

    sizes: Sequence[int]
    peers: Sequence[bytes]
    lengths: memoryview

    def __init__(self, size: int, stride: int) -> None:
        self.size = size
        self.stride = stride
        self.room = private_memory(size * stride)
        self.offsets = list(range(0, size * stride, stride))
        # Up to a power of two, because that many are read at once.
        self.names = private_memory(NAME_BYTES << (size - 1).bit_length())


class ReceiveBatch(Batch):
    """Filled anew by each `receive`. What fills its stride may have been cut: see `truncated`."""

    def __init__(self, size: int, stride: int) -> None:
        super().__init__(size, stride)
        self.sizes = self.peers = ()
        self._messages = Messages(size)
        self.lengths = self._messages.received
        for i, offset in enumerate(self.offsets):
            piece = self.room.address + offset, stride
            self._messages.describe(i, self.names.address + i * NAME_BYTES, [piece])
        # The count is cumulative, so that of one datagram a batch will do.
        self._control = private_memory(_CONTROL_BYTES)
        self._messages.ask_control(0, self._control.address)
        self._read_peers = [
            struct.Struct("2x6s8x" * (1 << power)).unpack_from
            for power in range((size - 1).bit_length() + 1)
        ]

    def receive(self, descriptor: int, most: int | None = None) -> int:
        """Take what waits at a socket, without waiting for it: how many datagrams, 0 if none.

        No more than `most`, None: than there is room for.

        `peers` may be longer. Raises OSError with what the kernel says, but for EAGAIN and EINTR.
        """
        self._messages.control_lengths[0] = _CONTROL_BYTES
        count = self._messages.receive(descriptor, self.size if most is None else most)
        if count:
            self.sizes = self.lengths[:count].tolist()
            # All in one call: a few too many cost less than a call for each.
            self.peers = self._read_peers[(count - 1).bit_length()](self.names.map)
        return count

    def truncated(self, index: int) -> bool:
        """Was this datagram longer than `stride`?"""
        return self._messages.truncated(index)

    def overflow(self) -> int | None:
        """The kernel's 32-bit count of what it dropped before this batch, None if it gave none."""
        length = self._messages.control_lengths[0]
        if not length:
            return None
        memory = self._control.map
        for level, kind, start, end in _control_messages(memory, min(length, _CONTROL_BYTES)):
            if level == socket.SOL_SOCKET and kind == SO_RXQ_OVFL and end - start >= 4:
                return int.from_bytes(memory[start : start + 4], sys.byteorder)
        return None


class Scratch(Batch):
    """Holds payloads of our own in place until they are sent."""

    def __init__(self, size: int, stride: int) -> None:
        super().__init__(size, stride)
        self.sizes: list[int] = []
        self.peers: list[bytes] = []
        self.lengths = private_memory(4 * size).view.cast("I")
        for i in range(size):
            _FAMILY.pack_into(self.names.map, i * NAME_BYTES, socket.AF_INET)

    def add(self, peer: bytes, payload: bytes) -> int:
        """Its index. There must be room for it."""
        index, length = len(self.sizes), len(payload)
        offset, name = self.offsets[index], index * NAME_BYTES
        self.room.map[offset : offset + length] = payload
        self.names.map[name + 2 : name + 8] = peer
        self.lengths[index] = length
        self.sizes.append(length)
        self.peers.append(peer)
        return index

    def clear(self) -> None:
        """Make room again."""
        self.sizes.clear()
        self.peers.clear()


def _control_messages(memory: mmap.mmap, length: int) -> Iterator[tuple[int, int, int, int]]:
    """Level, type, start and end of the data of each control message, see cmsg(3)."""
    at = 0
    header = -(-_CMSG.size // _CMSG_ALIGN) * _CMSG_ALIGN
    while at + header <= length:
        size, level, kind = _CMSG.unpack_from(memory, at)
        if size < header or at + size > length:
            return
        yield level, kind, at + header, at + size
        at += -(-size // _CMSG_ALIGN) * _CMSG_ALIGN
