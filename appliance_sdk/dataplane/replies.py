"""Sends replies as GWLB wants them: from the address that was hit, from GWLB's own source port.

An ordinary UDP answer has its ports swapped, and GWLB does not take it. The reply keeps both
ports and swaps the addresses only, see
https://aws.amazon.com/blogs/networking-and-content-delivery/integrate-your-custom-logic-or-appliance-with-aws-gateway-load-balancer/
"""

from __future__ import annotations

import ctypes
import errno
import select
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from appliance_sdk.dataplane.batch import Batch
from appliance_sdk.dataplane.mmsg import Messages

SEND_WAIT_S = 0.05
"""How long one flush waits for room in send buffers; after that, packets are dropped."""
SEND_BUFFER_BYTES = 4 << 20

Run: TypeAlias = tuple[Batch, int, int, bytes]
"""Datagrams of a batch from a first to before an end, and the local address they leave from."""

_SO_ATTACH_FILTER = 26


class Replies(Protocol):
    """A way to send."""

    @property
    def unbindable_ports(self) -> int:
        """Source ports, each with its local address, that could not be bound when last tried."""

    def send(self, runs: Sequence[Run]) -> None:
        """Send each datagram from its run's address, port peer[:2], to peer[2:], port 6081.

        In order for each source port. What cannot be sent is counted by the name of its errno.
        """

    def close(self) -> None:
        """Give the descriptors back."""


class Sender:
    """Sends many datagrams through one socket, whatever the kernel answers, in bounded time."""

    def __init__(
        self,
        errors: Counter[str],
        *,
        wait_s: float = SEND_WAIT_S,
        clock: Callable[[], float] = time.monotonic,
        wait_writable: Callable[[int, float], bool] | None = None,
    ) -> None:
        self.errors = errors
        self.sent = 0
        self._wait_s = wait_s
        self._clock = clock
        self._wait_writable = wait_writable or _wait_writable
        self._patience = wait_s

    def rested(self) -> None:
        """A new flush begins: it may wait again."""
        self._patience = self._wait_s

    def send(self, descriptor: int, messages: Messages, first: int, end: int) -> None:
        """Send messages from `first` to before `end`; those that fail are counted, others go."""
        while first < end:
            sent = messages.send(descriptor, first, end - first)
            if sent > 0:
                first += sent
                self.sent += sent
            elif -sent == errno.EINTR:
                continue
            elif -sent == errno.EAGAIN:
                if not self._wait(descriptor):
                    self.errors["EAGAIN"] += end - first
                    return
            else:
                self.errors[error_name(-sent)] += 1
                first += 1

    def _wait(self, descriptor: int) -> bool:
        if self._patience <= 0:
            return False
        before = self._clock()
        writable = self._wait_writable(descriptor, self._patience)
        # A socket that is writable and takes nothing must use the time up all the same.
        self._patience -= max(self._clock() - before, 0.001)
        return writable


def error_name(number: int) -> str:
    """The name of an errno: "EPERM"."""
    return errno.errorcode.get(number, f"E{number}")


def drop_everything(sock: socket.socket) -> None:
    """Attach a classic BPF program of one instruction, `ret #0`: the socket receives nothing."""
    program = ctypes.create_string_buffer(struct.pack("@HBBI", 0x06, 0, 0, 0))
    value = struct.pack("@HP", 1, ctypes.addressof(program))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, value)


def _wait_writable(descriptor: int, timeout_s: float) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLOUT)
    return bool(poller.poll(timeout_s * 1000))
