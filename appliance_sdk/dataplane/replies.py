"""Sends replies as GWLB wants them: from the address that was hit, from GWLB's own source port.

An ordinary UDP answer has its ports swapped, and GWLB does not take it. The reply keeps both
ports and swaps the addresses only, see
https://aws.amazon.com/blogs/networking-and-content-delivery/integrate-your-custom-logic-or-appliance-with-aws-gateway-load-balancer/
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import select
import socket
import struct
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from appliance_sdk.dataplane.addresses import never_fragment, set_buffer
from appliance_sdk.dataplane.mmsg import SendBatch, private_memory
from appliance_sdk.wire.geneve import PORT

SEND_WAIT_S = 0.05
"""How long one flush waits for room in send buffers; after that, packets are dropped."""
RETRY_BIND_S = 5.0
"""A port that could not be bound is tried again after this time: its holder may be gone."""

_SEND_BUFFER_BYTES = 4 << 20
_SO_ATTACH_FILTER = 26
_SPARE_DESCRIPTORS = 64  # for the rest of the process: logs, pipes, plugins
_SCRATCH_BYTES = 1 << 18
_MAX_PAYLOAD = 65507
_GWLB_PORT = PORT.to_bytes(2, "big")
_NO_PORT = b"\0\0"


class Replies(Protocol):
    """A way to send. Replies added are sent by `flush`, in order for each source port."""

    @property
    def unbindable_ports(self) -> int:
        """Source ports, each with its local address, that could not be bound when last tried."""

    def add(self, peer: bytes, local: bytes, address: int, length: int) -> None:
        """From `local`, port peer[:2], to peer[2:]: bytes that stay in place until the flush."""

    def flush(self) -> None:
        """Send everything added. What cannot be sent is counted by the name of its errno."""

    def close(self) -> None:
        """Give the descriptors back."""


class Sender:
    """Sends one batch through one socket, whatever the kernel answers, in bounded time."""

    def __init__(
        self,
        batch: SendBatch,
        errors: Counter[str],
        *,
        wait_s: float = SEND_WAIT_S,
        clock: Callable[[], float] = time.monotonic,
        wait_writable: Callable[[int, float], bool] | None = None,
    ) -> None:
        self.batch = batch
        self.errors = errors
        self.sent = 0
        self._wait_s = wait_s
        self._clock = clock
        self._wait_writable = wait_writable or _wait_writable
        self._patience = wait_s

    def rested(self) -> None:
        """A new flush begins: it may wait again."""
        self._patience = self._wait_s

    def send(self, descriptor: int, count: int) -> None:
        """Send the first `count` slots; those that fail are counted, the others go."""
        done = 0
        while done < count:
            sent = self.batch.send(descriptor, done, count - done)
            if sent > 0:
                done += sent
                self.sent += sent
            elif -sent == errno.EINTR:
                continue
            elif -sent == errno.EAGAIN:
                if not self._wait(descriptor):
                    self.errors["EAGAIN"] += count - done
                    return
            else:
                self.errors[error_name(-sent)] += 1
                done += 1

    def _wait(self, descriptor: int) -> bool:
        if self._patience <= 0:
            return False
        before = self._clock()
        writable = self._wait_writable(descriptor, self._patience)
        # A socket that is writable and takes nothing must use the time up all the same.
        self._patience -= max(self._clock() - before, 0.001)
        return writable


class RawReplies:
    """Replies through raw sockets: any source port, no copy. Needs CAP_NET_RAW."""

    unbindable_ports = 0

    def __init__(self, addresses: Iterable[bytes], sender: Sender) -> None:
        """One socket for each local address, `sender` with a batch made by `raw_batch`.

        Raises PermissionError if the process may not have raw sockets.
        """
        self._sender = sender
        self._batch = sender.batch
        self._prefixes = sender.batch.prefixes
        self._sockets: dict[bytes, socket.socket] = {}
        self._local = b""
        self._count = 0
        try:
            for address in addresses:
                self._sockets[address] = _raw_socket(address)
        except BaseException:
            self.close()
            raise

    def add(self, peer: bytes, local: bytes, address: int, length: int) -> None:
        if local != self._local or self._count == self._batch.size:
            self._send()
            self._local = local
        slot = self._count
        ip = peer[2:]
        _ADDRESSES.pack_into(self._prefixes, slot * 32 + 12, local, ip, peer[:2], PORT, length + 8)
        self._batch.put(slot, _NO_PORT, ip, address, length)
        self._count = slot + 1

    def flush(self) -> None:
        self._send()
        self._sender.rested()

    def close(self) -> None:
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()

    def _send(self) -> None:
        if not self._count:
            return
        sock = self._sockets.get(self._local)
        if sock is None:  # a flow restored from before a change of addresses
            self._sender.errors["EADDRNOTAVAIL"] += self._count
        else:
            self._sender.send(sock.fileno(), self._count)
        self._count = 0


class PortReplies:
    """Replies through one UDP socket for each local address and source port: no privileges.

    The sockets receive nothing: each has a filter that drops everything. `owned` are sockets that
    exist already, by port and address: the listeners themselves. The least recently used go when
    there are more than `capacity`.
    """

    def __init__(
        self,
        sender: Sender,
        *,
        owned: Mapping[bytes, int],
        capacity: int,
        shared: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sender = sender
        self._owned = dict(owned)
        self._capacity = max(capacity, 1)
        self._shared = shared
        self._clock = clock
        self._sockets: OrderedDict[bytes, socket.socket] = OrderedDict()
        self._groups: dict[bytes, list[tuple[bytes, int, int]]] = {}
        self._refused: dict[bytes, tuple[str, float]] = {}

    @property
    def unbindable_ports(self) -> int:
        """Source ports, each with its local address, that could not be bound when last tried."""
        return len(self._refused)

    @property
    def open_ports(self) -> int:
        """Sockets held now."""
        return len(self._sockets)

    def add(self, peer: bytes, local: bytes, address: int, length: int) -> None:
        key = peer[:2] + local
        group = self._groups.get(key)
        if group is None:
            self._groups[key] = group = []
        group.append((peer[2:], address, length))

    def flush(self) -> None:
        sender, batch = self._sender, self._sender.batch
        for key, group in self._groups.items():
            descriptor = self._descriptor(key, len(group))
            if descriptor < 0:
                continue
            for first in range(0, len(group), batch.size):
                part = group[first : first + batch.size]
                for slot, (ip, address, length) in enumerate(part):
                    batch.put(slot, _GWLB_PORT, ip, address, length)
                sender.send(descriptor, len(part))
        self._groups.clear()
        sender.rested()

    def close(self) -> None:
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()

    def _descriptor(self, key: bytes, packets: int) -> int:
        """The socket to send a group from, -1 (and its packets counted) if there is none."""
        owned = self._owned.get(key)
        if owned is not None:
            return owned
        sock = self._sockets.get(key)
        if sock is not None:
            self._sockets.move_to_end(key)
            return sock.fileno()
        refused = self._refused.get(key)
        if refused is not None and self._clock() < refused[1]:
            self._sender.errors[refused[0]] += packets
            return -1
        try:
            sock = self._open(key)
        except OSError as error:
            name = error_name(error.errno or 0)
            self._sender.errors[name] += packets
            if error.errno not in _NO_DESCRIPTOR:
                self._refused[key] = name, self._clock() + RETRY_BIND_S
            return -1
        self._refused.pop(key, None)
        self._sockets[key] = sock
        return sock.fileno()

    def _open(self, key: bytes) -> socket.socket:
        while len(self._sockets) >= self._capacity:
            self._evict()
        try:
            return _port_socket(key, self._shared)
        except OSError as error:
            if error.errno not in _NO_DESCRIPTOR or not self._sockets:
                raise
        # Others in this process took descriptors since: live with those we have.
        self._capacity = len(self._sockets)
        self._evict()
        return _port_socket(key, self._shared)

    def _evict(self) -> None:
        _key, oldest = self._sockets.popitem(last=False)
        oldest.close()


class Scratch:
    """Keeps payloads made by the engine in place until they are sent."""

    def __init__(self, replies: Replies, errors: Counter[str]) -> None:
        self._replies = replies
        self._errors = errors
        self._memory, self._address = private_memory(_SCRATCH_BYTES)
        self._used = 0

    def add(self, peer: bytes, local: bytes, payload: bytes) -> None:
        """Add a reply that does not lie in the receive buffers."""
        length = len(payload)
        if length > _MAX_PAYLOAD:
            self._errors["EMSGSIZE"] += 1
            return
        if self._used + length > _SCRATCH_BYTES:
            self.flush()
        at = self._used
        self._memory[at : at + length] = payload
        self._used = at + length
        self._replies.add(peer, local, self._address + at, length)

    def flush(self) -> None:
        """Send everything added so far, whichever way it was added."""
        self._replies.flush()
        self._used = 0


def raw_batch(size: int) -> SendBatch:
    """A batch whose slots begin with an IPv4 and a UDP header; addresses, ports, length to fill.

    Total length, identification and checksum of the IPv4 header are the kernel's, see raw(7). The
    UDP checksum stays 0, none: RFC 8926 §3.3 allows that over IPv4.
    """
    batch = SendBatch(size, _HEADERS.size)
    for slot in range(size):
        _HEADERS.pack_into(batch.prefixes, slot * 32, 0x45, _TTL, socket.IPPROTO_UDP)
    return batch


_TTL = 64
_HEADERS = struct.Struct(">B7xBB18x")
_ADDRESSES = struct.Struct(">4s4s2sHHxx")
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)


def descriptor_room() -> int:
    """How many more sockets this process may open, with some left for others."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        soft = 1 << 16
    return max(soft - len(os.listdir("/proc/self/fd")) - _SPARE_DESCRIPTORS, 1)


def error_name(number: int) -> str:
    """The name of an errno: "EPERM"."""
    return errno.errorcode.get(number, f"E{number}")


def drop_everything(sock: socket.socket) -> None:
    """Attach a classic BPF program of one instruction, `ret #0`: the socket receives nothing."""
    program = ctypes.create_string_buffer(struct.pack("@HBBI", 0x06, 0, 0, 0))
    value = struct.pack("@HP", 1, ctypes.addressof(program))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, value)


def _port_socket(key: bytes, shared: bool) -> socket.socket:
    port = int.from_bytes(key[:2], "big")
    if not port:  # the kernel would choose one
        raise OSError(errno.EADDRNOTAVAIL, "source port 0 cannot be bound")
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        drop_everything(sock)  # before the bind: not one datagram may get in
        # No SO_REUSEADDR: it would take the port from under a program that has it set too.
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        set_buffer(sock, send_bytes=_SEND_BUFFER_BYTES)
        never_fragment(sock)
        sock.bind((socket.inet_ntoa(key[2:]), port))
    except BaseException:
        sock.close()
        raise
    return sock


def _raw_socket(address: bytes) -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
    sock = socket.socket(socket.AF_INET, kind, socket.IPPROTO_RAW)
    try:
        drop_everything(sock)
        set_buffer(sock, send_bytes=_SEND_BUFFER_BYTES)
        # Bound, so that routing rules by source address hold for it.
        sock.bind((socket.inet_ntoa(address), 0))
    except BaseException:
        sock.close()
        raise
    return sock


def _wait_writable(descriptor: int, timeout_s: float) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLOUT)
    return bool(poller.poll(timeout_s * 1000))
