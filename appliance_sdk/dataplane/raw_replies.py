"""Replies through raw sockets: any source port, no copy, one privilege."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable

from appliance_sdk.dataplane.addresses import never_fragment, set_buffer
from appliance_sdk.dataplane.mmsg import Memory, SendBatch
from appliance_sdk.dataplane.replies import SEND_BUFFER_BYTES, Sender, drop_everything
from appliance_sdk.wire.geneve import PORT

_NO_PORT = b"\0\0"
_TTL = 64
_HEADERS = struct.Struct(">B7xBB18x")
_ADDRESSES = struct.Struct(">4s4s2sHHxx")


class RawReplies:
    """Replies through raw sockets with headers of our own. Needs CAP_NET_RAW."""

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

    def add(self, peer: bytes, local: bytes, room: Memory, offset: int, length: int) -> None:
        if local != self._local or self._count == self._batch.size:
            self._send()
            self._local = local
        slot = self._count
        ip = peer[2:]
        _ADDRESSES.pack_into(self._prefixes, slot * 32 + 12, local, ip, peer[:2], PORT, length + 8)
        self._batch.put(slot, _NO_PORT, ip, room.address + offset, length)
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


def raw_batch(size: int) -> SendBatch:
    """A batch whose slots begin with an IPv4 and a UDP header; addresses, ports, length to fill.

    Total length, identification and checksum of the IPv4 header are the kernel's, see raw(7). The
    UDP checksum stays 0, none: RFC 8926 §3.3 allows that over IPv4.
    """
    batch = SendBatch(size, _HEADERS.size)
    for slot in range(size):
        _HEADERS.pack_into(batch.prefixes, slot * 32, 0x45, _TTL, socket.IPPROTO_UDP)
    return batch


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
