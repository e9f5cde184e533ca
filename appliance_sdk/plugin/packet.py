"""The packet in hand: a view on the received bytes, valid during the call it was passed to."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from appliance_sdk.errors import PluginError
from appliance_sdk.wire.edit import clamp_mss, clear_urgent, patch_payload
from appliance_sdk.wire.packet import ACK, FIN, RST, SYN, Headers, parse_packet

if TYPE_CHECKING:
    from appliance_sdk.plugin.flow import Flow
    from appliance_sdk.wire.buffer import Buffer

_TCP = 6
_DEAD = b""


class Tcp(NamedTuple):
    """The TCP header fields of a packet; sequence numbers as they stand on the wire."""

    seq: int
    ack: int
    flags: int
    window: int

    @property
    def syn(self) -> bool:
        """SYN is set."""
        return bool(self.flags & SYN)

    @property
    def fin(self) -> bool:
        """FIN is set."""
        return bool(self.flags & FIN)

    @property
    def rst(self) -> bool:
        """RST is set."""
        return bool(self.flags & RST)

    @property
    def is_ack(self) -> bool:
        """ACK is set."""
        return bool(self.flags & ACK)


class Packet:
    """One object per worker, refilled for each packet: keep `copy()`, never the object.

    In debug mode and in `Bench` a packet kept after the call raises PluginError when it is touched.
    """

    __slots__ = ("_buffer", "_edited", "_end", "_headers", "_start", "related", "to_server")

    related: Flow | None
    """The flow that an ICMP error quotes, if it is known here."""
    to_server: bool

    def __init__(self) -> None:
        self._buffer: Buffer = _DEAD
        self._start = self._end = 0
        self._headers: Headers | None = None
        self._edited: bytearray | None = None
        self.related = None
        self.to_server = True

    def refill(
        self, buffer: Buffer, start: int, end: int, headers: Headers | None, to_server: bool
    ) -> None:
        """For the engine: point this view at another packet."""
        self._buffer = buffer
        self._start = start
        self._end = end
        self._headers = headers
        self._edited = None
        self.related = None
        self.to_server = to_server

    def retire(self) -> None:
        """For the engine: the call is over, whoever kept the view must notice."""
        self._buffer = _DEAD
        self._headers = None
        self.related = None

    @property
    def headers(self) -> Headers:
        """Every parsed header field; offsets in it count in the engine's buffer."""
        if self._headers is None:
            if self._buffer is _DEAD:
                raise PluginError("", "a packet was used after the call; keep packet.copy()")
            self._headers = parse_packet(self._buffer, self._start, self._end)
        return self._headers

    @property
    def to_client(self) -> bool:
        """True for packets that the server sent."""
        return not self.to_server

    @property
    def source(self) -> bytes:
        """Source address, packed (4 or 16 bytes)."""
        return self.headers.source

    @property
    def destination(self) -> bytes:
        """Destination address, packed (4 or 16 bytes)."""
        return self.headers.destination

    @property
    def ttl(self) -> int:
        """IPv4 time to live or IPv6 hop limit."""
        return self.headers.ttl

    @property
    def icmp_type(self) -> int:
        """ICMP or ICMPv6 type, -1 for other protocols."""
        return self.headers.icmp_type

    @property
    def icmp_code(self) -> int:
        """ICMP or ICMPv6 code, -1 for other protocols."""
        return self.headers.icmp_code

    @property
    def tcp(self) -> Tcp | None:
        """The TCP fields, None for other protocols."""
        h = self.headers
        return Tcp(h.seq, h.ack, h.flags, h.window) if h.protocol == _TCP else None

    @property
    def payload(self) -> bytes:
        """A copy of the bytes after the transport header."""
        h = self.headers
        return bytes(self._buffer[h.payload : h.end])

    @property
    def length(self) -> int:
        """Bytes of the inner packet, from its IP header on."""
        return self.headers.end - self._start

    def copy(self) -> bytes:
        """The whole inner packet as bytes that stay valid."""
        return bytes(self._buffer[self._start : self.headers.end])

    def patch(self, offset: int, new: bytes) -> None:
        """Replace payload bytes from `offset` on, same length; checksums are updated.

        Raises ValueError if the new bytes do not fit inside the payload.
        """
        headers = self.headers
        if offset < 0 or offset + len(new) > headers.end - headers.payload:
            raise ValueError("patch() must stay inside the payload: its length cannot change")
        packet = self._writable()
        patch_payload(packet, parse_packet(packet, 0, len(packet)), offset, new)
        self._headers = None

    def clamp_mss(self, mss: int) -> None:
        """Lower the MSS option of a SYN to `mss` bytes; no effect if it is lower or absent."""
        if not self.headers.flags & SYN:
            return
        packet = bytearray(self._buffer[self._start : self._end])
        if clamp_mss(packet, parse_packet(packet, 0, len(packet)), mss):
            self._adopt(packet)

    def clear_urgent(self) -> None:
        """For the engine: receivers differ in whether an urgent byte is part of the stream (RFC
        6093 §3.1); what a handler has read must be what is read."""
        clear_urgent(self._writable(), self.headers)

    def edited(self) -> bytearray | None:
        """For the engine: the packet as edited, or None if it is as received."""
        return self._edited

    def _writable(self) -> bytearray:
        if self._edited is None:
            self._adopt(bytearray(self._buffer[self._start : self._end]))
        assert self._edited is not None
        return self._edited

    def _adopt(self, packet: bytearray) -> None:
        self._edited = packet
        self._buffer = packet
        self._start, self._end = 0, len(packet)
        self._headers = None
