"""Fragments that landed with the wrong worker: handed to the one that has their flow.

The selector sends all fragments of a datagram to one worker, by addresses alone: only the first has
ports. That worker reads them there, and hands this fragment and those after it to the worker which
the whole packet would have come to.
"""

from __future__ import annotations

import socket
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from appliance_sdk.dataplane.cbpf import Instruction, run
from appliance_sdk.wire import Headers
from appliance_sdk.wire.buffer import Buffer

_DATAGRAMS = 4096
_TIMEOUT_S = 60.0
"""Receivers wait as long for the rest (RFC 8200 §4.5)."""
_MESSAGE_BYTES = 1 << 17
_BATCH = 64
_QUEUE_BYTES = 4 << 20

_Name: TypeAlias = tuple[int, bytes, bytes, int, int]


class Handover:
    """One worker's part: `inboxes` are the writing ends of all workers, by number."""

    def __init__(
        self,
        number: int,
        program: Sequence[Instruction],
        inbox: socket.socket,
        inboxes: Sequence[socket.socket],
    ) -> None:
        self._number = number
        self._program = program
        self._inbox = inbox
        self._inboxes = inboxes
        self._owners: OrderedDict[_Name, tuple[int, float]] = OrderedDict()
        self.handed_over = 0
        """Datagrams given to other workers."""
        self.lost = 0
        """Datagrams for a worker whose queue was full."""

    def fileno(self) -> int:
        """What becomes readable when another worker has handed something over."""
        return self._inbox.fileno()

    def divert(
        self,
        endpoint_id: int,
        headers: Headers,
        buffer: Buffer,
        place: tuple[bytes, bytes, int, int, int],
        now: float,
    ) -> bool:
        """Whether a fragment was handed over. `place`: peer, local, and where in the buffer the
        datagram begins, the inner packet begins, and both end."""
        name = (
            endpoint_id,
            headers.source,
            headers.destination,
            headers.fragment_id,
            headers.protocol if headers.version == 4 else -1,
        )
        peer, local, start, inner, end = place
        if headers.is_first_fragment:
            owner = self._owner(headers, bytes(buffer[start:end]), inner - start)
            self._owners.pop(name, None)
            self._owners[name] = owner, now + _TIMEOUT_S
            self._forget(now)
        else:
            owner, deadline = self._owners.get(name, (self._number, 0.0))
            if deadline < now:
                return False
        if owner == self._number:
            return False
        self._give(owner, peer + local + buffer[start:end])
        return True

    def take(self) -> Iterator[tuple[bytes, bytes, bytes]]:
        """What others have handed over, a batch at most: peer, local, UDP payload."""
        for _ in range(_BATCH):
            try:
                message = self._inbox.recv(_MESSAGE_BYTES)
            except (BlockingIOError, ConnectionError):
                return
            yield message[:6], message[6:10], message[10:]

    def _owner(self, headers: Headers, datagram: bytes, inner: int) -> int:
        """The worker for the packet of which this is the first fragment."""
        whole = bytearray(datagram)
        if headers.version == 4:
            whole[inner + 6 : inner + 8] = b"\0\0"
        else:
            at = inner + _fragment_header(whole, inner)
            whole[at + 2 : at + 4] = b"\0\0"
        return run(self._program, whole, 0, len(whole))

    def _give(self, worker: int, message: bytes) -> None:
        try:
            self._inboxes[worker].send(message)
            self.handed_over += 1
        except OSError:
            self.lost += 1

    def _forget(self, now: float) -> None:
        while self._owners:
            _, deadline = next(iter(self._owners.values()))
            if deadline >= now and len(self._owners) <= _DATAGRAMS:
                return
            self._owners.popitem(last=False)


def _fragment_header(packet: Buffer, inner: int) -> int:
    """Where the fragment header stands in an IPv6 packet that has one, from its beginning."""
    protocol, at = packet[inner + 6], 40
    while protocol != 44:
        protocol, units = packet[inner + at], packet[inner + at + 1]
        at += (units + 1) << 3
    return at


def inbox_pair() -> tuple[socket.socket, socket.socket]:
    """A worker's inbox: the reading end, and the writing end for all others."""
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for sock in (reader, writer):
        sock.setblocking(False)
    writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _QUEUE_BYTES)
    return reader, writer
