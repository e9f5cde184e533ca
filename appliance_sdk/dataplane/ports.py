"""Sockets bound to the source ports of replies: which are made, kept, refused and given up."""

from __future__ import annotations

import errno
import os
import resource
import socket
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import NamedTuple

from appliance_sdk.dataplane.addresses import never_fragment, set_buffer
from appliance_sdk.dataplane.replies import SEND_BUFFER_BYTES, drop_everything, error_name
from appliance_sdk.wire.geneve import PORT

RETRY_BIND_S = 5.0
"""A port that could not be bound is tried again after this time: its holder may be gone."""

_SPARE_DESCRIPTORS = 64  # for the rest of the process: logs, pipes, plugins
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)


class Port(NamedTuple):
    """A socket, and the node that it is connected to, b"" if to none.

    The kernel looks up the route to that node once, and that to others for each datagram.
    """

    sock: socket.socket
    node: bytes


class Ports:
    """One UDP socket for each local address and source port.

    The sockets receive nothing: each has a filter that drops everything. `owned` are sockets that
    exist already, by port and address: the listeners themselves. The least recently used go when
    there are more than `capacity`. What becomes of packets without a socket is counted in `errors`.
    """

    def __init__(
        self,
        errors: Counter[str],
        *,
        owned: Mapping[bytes, socket.socket],
        capacity: int,
        shared: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._errors = errors
        self._owned = {key: Port(sock, b"") for key, sock in owned.items()}
        self._capacity = max(capacity, 1)
        self._shared = shared
        self._clock = clock
        self._open: OrderedDict[bytes, Port] = OrderedDict()
        self._refused: dict[bytes, tuple[str, float]] = {}

    def __len__(self) -> int:
        return len(self._open)

    @property
    def full(self) -> bool:
        """Whether one more would cost another: only then does it matter which were used."""
        return len(self._open) >= self._capacity

    @property
    def unbindable(self) -> int:
        """How many could not be bound when last tried."""
        return len(self._refused)

    def use(self, peer: bytes, local: bytes) -> None:
        """This one has been used."""
        key = peer[:2] + local
        if key in self._open:
            self._open.move_to_end(key)

    def get(self, peer: bytes, local: bytes, packets: int) -> Port | None:
        """Where to send to a peer from; None, and the packets counted, if there is nothing."""
        key = peer[:2] + local
        port = self._owned.get(key)
        if port is not None:
            return port
        port = self._open.get(key)
        if port is not None:
            self._open.move_to_end(key)
            return port
        refused = self._refused.get(key)
        if refused is not None and self._clock() < refused[1]:
            self._errors[refused[0]] += packets
            return None
        try:
            sock = self._made(key)
        except OSError as error:
            name = error_name(error.errno or 0)
            self._errors[name] += packets
            if error.errno not in _NO_DESCRIPTOR:
                self._refused[key] = name, self._clock() + RETRY_BIND_S
            return None
        self._refused.pop(key, None)
        # If it cannot be connected, sending will say why.
        connected = sock.connect_ex((socket.inet_ntoa(peer[2:]), PORT)) == 0
        port = self._open[key] = Port(sock, peer[2:] if connected else b"")
        return port

    def close(self) -> None:
        """Give the descriptors back."""
        for port in self._open.values():
            port.sock.close()
        self._open.clear()

    def _made(self, key: bytes) -> socket.socket:
        while self.full:
            self._evict()
        try:
            return _port_socket(key, self._shared)
        except OSError as error:
            if error.errno not in _NO_DESCRIPTOR or not self._open:
                raise
        # Others in this process took descriptors since: live with those we have.
        self._capacity = len(self._open)
        self._evict()
        return _port_socket(key, self._shared)

    def _evict(self) -> None:
        _key, oldest = self._open.popitem(last=False)
        oldest.sock.close()


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
