"""recvmmsg(2) and sendmmsg(2): many datagrams a system call, in buffers that are made once.

The structures are those of `struct mmsghdr` in recvmmsg(2), laid out by ctypes for the machine.
Make batches after a fork: the memory is private to the process that made it.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import struct
import sys
from collections.abc import Iterator
from typing import NamedTuple

SO_RXQ_OVFL = 40
"""Asks the kernel for its count of datagrams dropped at a full receive buffer, see socket(7)."""

_CONTROL_BYTES = 64
_NAME_BYTES = 16  # sockaddr_in
_PREFIX_BYTES = 32
_CMSG = struct.Struct("@Nii")
_CMSG_ALIGN = ctypes.sizeof(ctypes.c_size_t)
_NAME = struct.Struct("=H2s4s8x")


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Msghdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Mmsghdr(ctypes.Structure):
    _fields_ = (("header", _Msghdr), ("length", ctypes.c_uint))


_HEADER_BYTES = ctypes.sizeof(_Mmsghdr)
_WORD_BYTES = ctypes.sizeof(ctypes.c_size_t)

_libc = ctypes.CDLL(None, use_errno=True)
_recvmmsg = _libc.recvmmsg
_recvmmsg.argtypes = (
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_uint,
    ctypes.c_int,
    ctypes.c_void_p,
)
_sendmmsg = _libc.sendmmsg
_sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)


class Memory(NamedTuple):
    """One piece of memory: slices of `map` are bytes, slices of `view` are no copies."""

    map: mmap.mmap
    view: memoryview
    address: int


def private_memory(size: int) -> Memory:
    """Zeroed memory of this process alone."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return Memory(memory, memoryview(memory), ctypes.addressof(ctypes.c_char.from_buffer(memory)))


class ReceiveBatch:
    """Room for `size` datagrams of up to `stride` bytes, filled anew by each `receive`.

    Datagram i stands in `room` from i * stride on; `slots[i]` is its offset there, the index of
    its length in `lengths`, and where in `names` the six bytes of its sender's port and address
    start. A datagram whose length is `stride` may have been cut: ask `truncated(i)`.
    """

    def __init__(self, size: int, stride: int) -> None:
        self.size = size
        self.stride = stride
        self.room = private_memory(size * stride)
        names = private_memory(size * _NAME_BYTES)
        self.names = names.map
        control = private_memory(_CONTROL_BYTES)
        self._control = control.map
        self._headers = (_Mmsghdr * size)()
        self._headers_address = ctypes.addressof(self._headers)
        self._iovecs = (_Iovec * size)()
        for i in range(size):
            iovec, header = self._iovecs[i], self._headers[i].header
            iovec.base = self.room.address + i * stride
            iovec.length = stride
            header.name = names.address + i * _NAME_BYTES
            header.namelen = _NAME_BYTES
            header.iov = ctypes.addressof(iovec)
            header.iovlen = 1
        # The count is cumulative, so that of one datagram a batch will do.
        self._headers[0].header.control = control.address
        self.lengths = memoryview(self._headers).cast("B").cast("I")
        length_at = _Mmsghdr.length.offset
        self.slots = [
            (i * stride, (i * _HEADER_BYTES + length_at) // 4, i * _NAME_BYTES + 2)
            for i in range(size)
        ]

    def receive(self, descriptor: int) -> int:
        """Take what waits at a socket, without waiting for it: how many datagrams, 0 if none.

        Raises OSError with what the kernel says, but for EAGAIN and EINTR.
        """
        self._headers[0].header.controllen = _CONTROL_BYTES
        count: int = _recvmmsg(
            descriptor, self._headers_address, self.size, socket.MSG_DONTWAIT, None
        )
        if count >= 0:
            return count
        error = ctypes.get_errno()
        if error in (errno.EAGAIN, errno.EINTR):
            return 0
        raise OSError(error, os.strerror(error))

    def truncated(self, index: int) -> bool:
        """Was this datagram longer than `stride`?"""
        return bool(self._headers[index].header.flags & socket.MSG_TRUNC)

    def overflow(self) -> int | None:
        """The kernel's 32-bit count of what it dropped before this batch, None if it gave none."""
        length = min(self._headers[0].header.controllen, _CONTROL_BYTES)
        for level, kind, start, end in _control_messages(self._control, length):
            if level == socket.SOL_SOCKET and kind == SO_RXQ_OVFL and end - start >= 4:
                return int.from_bytes(self._control[start : start + 4], sys.byteorder)
        return None


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


class SendBatch:
    """Room for `size` datagrams that lie elsewhere: a slot names an address, not a copy.

    With `prefix_bytes` (at most 32), each slot has so many bytes of its own in `prefixes`, from
    slot * 32 on, that are sent before the datagram.
    """

    def __init__(self, size: int, prefix_bytes: int = 0) -> None:
        self.size = size
        prefixes = private_memory(size * _PREFIX_BYTES)
        self.prefixes = prefixes.map
        names = private_memory(size * _NAME_BYTES)
        self._names = names.map
        pieces = 2 if prefix_bytes else 1
        self._headers = (_Mmsghdr * size)()
        self._headers_address = ctypes.addressof(self._headers)
        self._iovecs = (_Iovec * (size * pieces))()
        iovecs = ctypes.addressof(self._iovecs)
        for i in range(size):
            header = self._headers[i].header
            header.name = names.address + i * _NAME_BYTES
            header.namelen = _NAME_BYTES
            header.iov = iovecs + i * pieces * ctypes.sizeof(_Iovec)
            header.iovlen = pieces
            if prefix_bytes:
                self._iovecs[2 * i].base = prefixes.address + i * _PREFIX_BYTES
                self._iovecs[2 * i].length = prefix_bytes
        self._words = memoryview(self._iovecs).cast("B").cast("L")
        self._per_slot = 2 * pieces
        self._payload_at = 2 * (pieces - 1)

    def put(self, slot: int, port: bytes, ip: bytes, address: int, length: int) -> None:
        """Fill a slot: to port and ip (as on the wire), the bytes at a memory address."""
        _NAME.pack_into(self._names, slot * _NAME_BYTES, socket.AF_INET, port, ip)
        word = slot * self._per_slot + self._payload_at
        self._words[word] = address
        self._words[word + 1] = length

    def send(self, descriptor: int, first: int, count: int) -> int:
        """Send slots from `first` on without waiting: how many went, or minus the errno."""
        address = self._headers_address + first * _HEADER_BYTES
        sent: int = _sendmmsg(descriptor, address, count, socket.MSG_DONTWAIT)
        return sent if sent >= 0 else -ctypes.get_errno()
