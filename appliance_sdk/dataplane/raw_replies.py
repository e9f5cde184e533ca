"""Replies through raw sockets: any source port, no copy, one privilege."""

from __future__ import annotations

import functools
import socket
import struct
from collections.abc import Iterable, Sequence

from appliance_sdk.dataplane.addresses import never_fragment, set_buffer
from appliance_sdk.dataplane.batch import Batch
from appliance_sdk.dataplane.mmsg import NAME_BYTES, Memory, Messages, private_memory
from appliance_sdk.dataplane.replies import SEND_BUFFER_BYTES, Run, Sender, drop_everything
from appliance_sdk.wire.geneve import PORT

_TTL = 64
_IP = struct.Struct(">B7xBBxx")
"""As far as the addresses. Length, identification and checksum are the kernel's, see raw(7)."""
_IP_BYTES = _IP.size + 4
_UDP = struct.Struct(">HHxx")
"""From the destination port on. No checksum: RFC 8926 §3.3 allows that over IPv4."""
_UDP_HEADER_BYTES = 8


class RawReplies:
    """Replies through raw sockets with headers of our own. Needs CAP_NET_RAW.

    A reply is put together by the kernel, from five pieces: the IPv4 header up to the local
    address, which all have in common; peer address and source port, from where the kernel put them
    when it received the datagram; the rest of the UDP header; and the datagram. Two lengths are
    all that is left to write.
    """

    unbindable_ports = 0

    def __init__(self, addresses: Iterable[bytes], sender: Sender) -> None:
        """One socket for each local address.

        Raises PermissionError if the process may not have raw sockets.
        """
        self._sender = sender
        self._common = private_memory(_IP_BYTES)
        _IP.pack_into(self._common.map, 0, 0x45, _TTL, socket.IPPROTO_UDP)
        self._described: dict[Batch, _Described] = {}
        self._joined = Messages(1)
        self._local, self._descriptor = b"", -1
        self._sockets: dict[bytes, socket.socket] = {}
        try:
            for address in addresses:
                self._sockets[address] = _raw_socket(address)
        except BaseException:
            self.close()
            raise

    def send(self, runs: Sequence[Run]) -> None:
        """Send runs of datagrams, in order."""
        parts: list[tuple[Messages, int, int]] = []
        for batch, first, end, local in runs:
            if local != self._local:
                self._send(parts)
                self._leave_from(local)
                parts = []
            described = self._described.get(batch)
            if described is None:
                described = self._described[batch] = _Described(batch, self._common)
                self._joined = Messages(self._joined.size + batch.size)
            described.measure(first, end)
            parts.append((described.messages, first, end))
        self._send(parts)
        self._sender.rested()

    def close(self) -> None:
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()
        self._local, self._descriptor = b"", -1

    def _leave_from(self, local: bytes) -> None:
        """What is sent from now on leaves from this address."""
        self._local = self._common.map[_IP.size : _IP_BYTES] = local
        sock = self._sockets.get(local)
        self._descriptor = sock.fileno() if sock is not None else -1

    def _send(self, parts: Sequence[tuple[Messages, int, int]]) -> None:
        """Send from the address that all have in common."""
        if not parts:
            return
        if self._descriptor < 0:  # a flow restored from before a change of addresses
            count = sum(end - first for _messages, first, end in parts)
            self._sender.errors["EADDRNOTAVAIL"] += count
        elif len(parts) == 1:
            messages, first, end = parts[0]
            self._sender.send(self._descriptor, messages, first, end)
        else:
            self._sender.send(self._descriptor, self._joined, 0, self._joined.copy(parts))


class _Described:
    """A batch's datagrams as replies."""

    def __init__(self, batch: Batch, common: Memory) -> None:
        self._batch = batch
        self.messages = Messages(batch.size, 5)
        udp = private_memory(batch.size * _UDP_HEADER_BYTES)
        self._udp_lengths = udp.view.cast("H")[1 :: _UDP_HEADER_BYTES // 2]
        self._lengths_on_wire = _lengths_on_wire(batch.stride)
        for i, offset in enumerate(batch.offsets):
            name, rest = batch.names.address + i * NAME_BYTES, udp.address + i * _UDP_HEADER_BYTES
            _UDP.pack_into(udp.map, i * _UDP_HEADER_BYTES, PORT, 0)
            self.messages.describe(
                i,
                name,
                (
                    (common.address, _IP_BYTES),
                    (name + 4, 4),
                    (name + 2, 2),
                    (rest, _UDP.size),
                    (batch.room.address + offset, 0),
                ),
            )

    def measure(self, first: int, end: int) -> None:
        """Take over how long the datagrams from `first` to before `end` are."""
        batch, udp, on_wire = self._batch, self._udp_lengths, self._lengths_on_wire
        self.messages.lengths[first:end] = batch.lengths[first:end]
        for i, size in enumerate(batch.sizes[first:end], first):
            udp[i] = on_wire[size]


@functools.cache
def _lengths_on_wire(stride: int) -> list[int]:
    return [socket.htons(_UDP_HEADER_BYTES + size) for size in range(stride + 1)]


def _raw_socket(address: bytes) -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
    sock = socket.socket(socket.AF_INET, kind, socket.IPPROTO_RAW)
    try:
        drop_everything(sock)
        set_buffer(sock, send_bytes=SEND_BUFFER_BYTES)
        never_fragment(sock)
        # Bound, so that routing rules by source address hold for it.
        sock.bind((socket.inet_ntoa(address), 0))
    except BaseException:
        sock.close()
        raise
    return sock
