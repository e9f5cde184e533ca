"""Replies through ordinary UDP sockets, one for each source port: no privileges."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Sequence
from typing import TypeAlias

from appliance_sdk.dataplane.batch import Batch
from appliance_sdk.dataplane.mmsg import NAME_BYTES, Messages, private_memory
from appliance_sdk.dataplane.ports import Port, Ports
from appliance_sdk.dataplane.replies import Run, Sender
from appliance_sdk.wire.geneve import PORT

_NAME = struct.Struct("=H2s4s8x")
_GWLB_PORT = PORT.to_bytes(2, "big")
_WAYS_KEPT = 1 << 16
_MANY = 3
"""Packets a port from which on one call for all costs less than one call each."""

_Way: TypeAlias = Callable[[memoryview], int]


class PortReplies:
    """Replies through the socket that `ports` has for each local address and source port."""

    def __init__(self, ports: Ports, sender: Sender) -> None:
        self._ports = ports
        self._sender = sender
        self._ways: dict[bytes, dict[bytes, _Way]] = {}
        self._name = private_memory(NAME_BYTES)
        self._described: dict[Batch, Messages] = {}
        self._joined = Messages(1)

    @property
    def unbindable_ports(self) -> int:
        """Source ports, each with its local address, that could not be bound when last tried."""
        return self._ports.unbindable

    def send(self, runs: Sequence[Run]) -> None:
        """Send runs of datagrams, in order for each source port."""
        count, peers = 0, set[bytes]()
        for batch, first, end, _local in runs:
            count += end - first
            peers.update(batch.peers[first:end])
        if count < _MANY * len(peers):
            for run in runs:
                self._send_each(*run)
        else:
            self._send_groups(runs)
        self._sender.rested()

    def close(self) -> None:
        self._ports.close()

    def _send_each(self, batch: Batch, first: int, end: int, local: bytes) -> None:
        """A call for each: GWLB spreads its flows over many ports, so that this is usual."""
        ways = self._ways.setdefault(local, {})
        view, ports, full, sent = batch.room.view, self._ports, self._ports.full, 0
        for i, peer in enumerate(batch.peers[first:end], first):
            if full:
                ports.use(peer, local)
            offset = batch.offsets[i]
            try:
                ways[peer](view[offset : offset + batch.sizes[i]])
            except (KeyError, OSError):  # a new way, a closed one, or one that is blocked
                self._send_anew(ways, batch, i, local)
            else:
                sent += 1
        self._sender.sent += sent

    def _send_anew(self, ways: dict[bytes, _Way], batch: Batch, index: int, local: bytes) -> None:
        """Find the way again, and send so that failure is dealt with."""
        peer = batch.peers[index]
        port = self._ports.get(peer, local, 1)
        if port is None:
            return
        if len(ways) >= _WAYS_KEPT:
            ways.clear()
        ways[peer] = _way(port, peer[2:])
        messages = self._measured(batch, index, index + 1)
        self._send_group(port, peer, [(messages, index, index + 1)])

    def _send_groups(self, runs: Sequence[Run]) -> None:
        """A call for all that go the same way."""
        groups: dict[tuple[bytes, bytes], list[tuple[Messages, int, int]]] = {}
        for batch, first, end, local in runs:
            messages = self._measured(batch, first, end)
            for i, peer in enumerate(batch.peers[first:end], first):
                groups.setdefault((peer, local), []).append((messages, i, i + 1))
        for (peer, local), group in groups.items():
            port = self._ports.get(peer, local, len(group))
            if port is not None:
                self._send_group(port, peer, group)

    def _send_group(
        self, port: Port, peer: bytes, group: Sequence[tuple[Messages, int, int]]
    ) -> None:
        _NAME.pack_into(self._name.map, 0, socket.AF_INET, _GWLB_PORT, peer[2:])
        count = self._joined.copy(group)
        self._sender.send(port.sock.fileno(), self._joined, 0, count)

    def _measured(self, batch: Batch, first: int, end: int) -> Messages:
        """A batch's datagrams as they are sent, of which those from `first` to before `end` are."""
        messages = self._described.get(batch)
        if messages is None:
            messages = self._described[batch] = Messages(batch.size)
            for i, offset in enumerate(batch.offsets):
                messages.describe(i, self._name.address, [(batch.room.address + offset, 0)])
            self._joined = Messages(self._joined.size + batch.size)
        messages.lengths[first:end] = batch.lengths[first:end]
        return messages


def _way(port: Port, node: bytes) -> _Way:
    """How to send one datagram from a port to a node."""
    if port.node == node:
        return port.sock.send
    sock, address = port.sock, (socket.inet_ntoa(node), PORT)
    return lambda payload: sock.sendto(payload, socket.MSG_DONTWAIT, address)
