"""Messages between the processes of an appliance: msgpack over a socket pair, never waiting."""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Iterator
from typing import Any

import msgpack

_PIECE_BYTES = 32 * 1024
_FIRST, _LAST = 1, 2
_QUEUE_BYTES = 8 * 1024 * 1024
_MAX_MESSAGE_BYTES = 256 * 1024 * 1024


class Channel:
    """One end. What cannot be sent at once waits, up to `queue_bytes`; beyond it is lost.

    Both ends outlive the processes that use them: a process that was started in the place of
    another goes on where that one stopped, and what was half said is forgotten.
    """

    def __init__(self, sock: socket.socket, queue_bytes: int = _QUEUE_BYTES) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._queue_bytes = queue_bytes
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._partial: bytearray | None = None
        self.lost = 0
        """Messages that found the queue full."""

    @classmethod
    def pair(cls, queue_bytes: int = _QUEUE_BYTES) -> tuple[Channel, Channel]:
        """Two ends that are connected."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for sock in (ours, theirs):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        return cls(ours, queue_bytes), cls(theirs, queue_bytes)

    def fileno(self) -> int:
        """For select and poll."""
        return self._sock.fileno()

    def send(self, kind: str, **fields: Any) -> bool:
        """Say something; False if it was lost because the other side does not listen."""
        data = msgpack.packb([kind, fields])
        if self._waiting_bytes and self._waiting_bytes + len(data) > self._queue_bytes:
            self.flush()
            if self._waiting_bytes + len(data) > self._queue_bytes:
                self.lost += 1
                return False
        for at in range(0, len(data), _PIECE_BYTES):
            flags = (_FIRST if at == 0 else 0) | (_LAST if at + _PIECE_BYTES >= len(data) else 0)
            piece = bytes((flags,)) + data[at : at + _PIECE_BYTES]
            self._waiting.append(piece)
            self._waiting_bytes += len(piece)
        self.flush()
        return True

    def flush(self) -> bool:
        """Send what waits; whether nothing waits any more."""
        while self._waiting:
            try:
                self._sock.send(self._waiting[0])
            except (BlockingIOError, ConnectionError):
                return False
            self._waiting_bytes -= len(self._waiting.popleft())
        return True

    def finish(self, patience_s: float) -> bool:
        """Wait until all is sent; False if the other side took nothing for so long."""
        poller = select.poll()
        poller.register(self._sock, select.POLLOUT)
        while not self.flush():
            before = len(self._waiting)
            if not poller.poll(patience_s * 1000):
                return False
            if not self.flush() and len(self._waiting) == before:
                return False  # writable, and still not taken: nobody is there any more
        return True

    def receive(self, limit: int = 1000) -> Iterator[tuple[str, dict[str, Any]]]:
        """What the other side has said, up to `limit` pieces of it."""
        for _ in range(limit):
            try:
                piece = self._sock.recv(_PIECE_BYTES + 1)
            except (BlockingIOError, ConnectionError):
                return
            if not piece:
                return
            if piece[0] & _FIRST:
                self._partial = bytearray()
            if self._partial is None or len(self._partial) > _MAX_MESSAGE_BYTES:
                self._partial = None
                continue
            self._partial += piece[1:]
            if piece[0] & _LAST:
                data, self._partial = self._partial, None
                kind, fields = msgpack.unpackb(data, strict_map_key=False)
                yield kind, fields

    def close(self) -> None:
        """Give the descriptor back."""
        self._sock.close()
