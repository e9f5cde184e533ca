"""recvmmsg(2) and sendmmsg(2): many datagrams a system call, described once.

The structures are those of `struct mmsghdr` in recvmmsg(2), laid out by ctypes for the machine.
Make them after a fork: the memory is private to the process that made it.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import sys
from collections.abc import Iterable
from typing import NamedTuple

SO_RXQ_OVFL = 40
"""Asks the kernel for its count of datagrams dropped at a full receive buffer, see socket(7)."""
NAME_BYTES = 16  # sockaddr_in


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
_IOVEC_BYTES = ctypes.sizeof(_Iovec)
_WORD_BYTES = ctypes.sizeof(ctypes.c_size_t)
_LOW_HALF_AT = 0 if sys.byteorder == "little" else _WORD_BYTES - 4

_DONTWAIT = int(socket.MSG_DONTWAIT)

# Without `argtypes`, which would be asked about each argument of each call: numbers are ints to C,
# and addresses are made once.
_libc = ctypes.CDLL(None, use_errno=True)
_recvmmsg, _sendmmsg = _libc.recvmmsg, _libc.sendmmsg


class Memory(NamedTuple):
    """One piece of memory: slices of `map` are bytes, slices of `view` are no copies."""

    map: mmap.mmap
    view: memoryview
    address: int


def private_memory(size: int) -> Memory:
    """Zeroed memory of this process alone."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return Memory(memory, memoryview(memory), ctypes.addressof(ctypes.c_char.from_buffer(memory)))


class Messages:
    """`size` datagrams, each of so many pieces (iovecs) that lie anywhere, with an address."""

    def __init__(self, size: int, pieces: int = 1) -> None:
        self.size = size
        self._pieces = pieces
        self._headers = (_Mmsghdr * size)()
        self._iovecs = (_Iovec * (size * pieces))()
        address = ctypes.addressof(self._headers)
        self._at = [ctypes.c_void_p(address + i * _HEADER_BYTES) for i in range(size)]
        self._bytes = memoryview(self._headers).cast("B")
        words = self._bytes.cast("I")
        self.received = words[_Mmsghdr.length.offset // 4 :: _HEADER_BYTES // 4]
        """How many bytes of each datagram `receive` took."""
        words = self._bytes.cast("L")
        at = _Mmsghdr.header.offset + _Msghdr.controllen.offset
        self.control_lengths = words[at // _WORD_BYTES :: _HEADER_BYTES // _WORD_BYTES]
        """The room for each datagram's control messages; after `receive`, what is used of it."""
        words = memoryview(self._iovecs).cast("B").cast("I")
        last = (pieces - 1) * _IOVEC_BYTES + _Iovec.length.offset + _LOW_HALF_AT
        self.lengths = words[last // 4 :: pieces * _IOVEC_BYTES // 4]
        """How long each datagram's last piece is."""

    def describe(self, index: int, name: int, pieces: Iterable[tuple[int, int]]) -> None:
        """Where datagram `index` lies: the address of its sockaddr_in, and address and length of
        each piece."""
        at = index * self._pieces
        header = self._headers[index].header
        header.name = name
        header.namelen = NAME_BYTES
        header.iov = ctypes.addressof(self._iovecs) + at * _IOVEC_BYTES
        header.iovlen = self._pieces
        for number, (address, length) in enumerate(pieces, at):
            self._iovecs[number].base = address
            self._iovecs[number].length = length

    def ask_control(self, index: int, address: int) -> None:
        """Where control messages with datagram `index` go; see `control_lengths`."""
        self._headers[index].header.control = address

    def copy(self, parts: Iterable[tuple[Messages, int, int]]) -> int:
        """Describe what others describe, from a first to before an end each; how many."""
        copied = b"".join(
            messages._bytes[first * _HEADER_BYTES : end * _HEADER_BYTES]
            for messages, first, end in parts
        )
        self._bytes[: len(copied)] = copied
        return len(copied) // _HEADER_BYTES

    def receive(self, descriptor: int, most: int) -> int:
        """Take what waits at a socket, up to so many datagrams, without waiting for any: how many.

        Raises OSError with what the kernel says, but for EAGAIN and EINTR.
        """
        count: int = _recvmmsg(descriptor, self._at[0], most, _DONTWAIT, None)
        if count >= 0:
            return count
        error = ctypes.get_errno()
        if error in (errno.EAGAIN, errno.EINTR):
            return 0
        raise OSError(error, os.strerror(error))

    def send(self, descriptor: int, first: int, count: int) -> int:
        """Send datagrams from `first` on without waiting: how many went, or minus the errno."""
        sent: int = _sendmmsg(descriptor, self._at[first], count, _DONTWAIT)
        return sent if sent >= 0 else -ctypes.get_errno()

    def truncated(self, index: int) -> bool:
        """Was this datagram longer than the room for it?"""
        return bool(self._headers[index].header.flags & socket.MSG_TRUNC)
