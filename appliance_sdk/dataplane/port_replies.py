"""Replies through ordinary UDP sockets, one for each source port: no privileges."""

from __future__ import annotations

import errno
import os
import resource
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

from appliance_sdk.dataplane.addresses import never_fragment, set_buffer
from appliance_sdk.dataplane.mmsg import Memory
from appliance_sdk.dataplane.replies import (
    SEND_BUFFER_BYTES,
    Sender,
    drop_everything,
    error_name,
)
from appliance_sdk.wire.geneve import PORT

RETRY_BIND_S = 5.0
"""A port that could not be bound is tried again after this time: its holder may be gone."""

_SPARE_DESCRIPTORS = 64  # for the rest of the process: logs, pipes, plugins
_GWLB_PORT = PORT.to_bytes(2, "big")
_NAMES_KEPT = 4096
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)


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
        owned: Mapping[bytes, socket.socket],
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
        self._groups: dict[bytes, list[tuple[bytes, Memory, int, int]]] = {}
        self._refused: dict[bytes, tuple[str, float]] = {}
        self._names: dict[bytes, tuple[str, int]] = {}

    @property
    def unbindable_ports(self) -> int:
        """Source ports, each with its local address, that could not be bound when last tried."""
        return len(self._refused)

    @property
    def open_ports(self) -> int:
        """Sockets held now."""
        return len(self._sockets)

    def add(self, peer: bytes, local: bytes, room: Memory, offset: int, length: int) -> None:
        key = peer[:2] + local
        group = self._groups.get(key)
        if group is None:
            self._groups[key] = group = []
        group.append((peer[2:], room, offset, length))

    def flush(self) -> None:
        sender, batch = self._sender, self._sender.batch
        for key, group in self._groups.items():
            sock = self._socket(key, len(group))
            if sock is None:
                continue
            if len(group) == 1 and self._send_one(sock, *group[0]):
                continue
            for first in range(0, len(group), batch.size):
                part = group[first : first + batch.size]
                for slot, (ip, room, offset, length) in enumerate(part):
                    batch.put(slot, _GWLB_PORT, ip, room.address + offset, length)
                sender.send(sock.fileno(), len(part))
        self._groups.clear()
        sender.rested()

    def close(self) -> None:
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()

    def _send_one(
        self, sock: socket.socket, ip: bytes, room: Memory, offset: int, length: int
    ) -> bool:
        """Send a lone packet the short way, which is faster than a batch of one.

        GWLB spreads its flows over many ports, so that this is the usual case. False: it did not
        go, and the long way knows what to do about it.
        """
        name = self._names.get(ip)
        if name is None:
            if len(self._names) >= _NAMES_KEPT:
                self._names.clear()
            name = self._names[ip] = socket.inet_ntoa(ip), PORT
        try:
            sock.sendto(room.view[offset : offset + length], socket.MSG_DONTWAIT, name)
        except OSError:
            return False
        self._sender.sent += 1
        return True

    def _socket(self, key: bytes, packets: int) -> socket.socket | None:
        """The socket to send a group from; None, and its packets counted, if there is none."""
        owned = self._owned.get(key)
        if owned is not None:
            return owned
        sock = self._sockets.get(key)
        if sock is not None:
            self._sockets.move_to_end(key)
            return sock
        refused = self._refused.get(key)
        if refused is not None and self._clock() < refused[1]:
            self._sender.errors[refused[0]] += packets
            return None
        try:
            sock = self._open(key)
        except OSError as error:
            name = error_name(error.errno or 0)
            self._sender.errors[name] += packets
            if error.errno not in _NO_DESCRIPTOR:
                self._refused[key] = name, self._clock() + RETRY_BIND_S
            return None
        self._refused.pop(key, None)
        self._sockets[key] = sock
        return sock

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


def descriptor_room() -> int:
    """How many more sockets this process may open, with some left for others."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        soft = 1 << 16
    return max(soft - len(os.listdir("/proc/self/fd")) - _SPARE_DESCRIPTORS, 1)


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
        set_buffer(sock, send_bytes=SEND_BUFFER_BYTES)
        never_fragment(sock)
        sock.bind((socket.inet_ntoa(key[2:]), port))
    except BaseException:
        sock.close()
        raise
    return sock
