"""What both halves of a TCP connection share: states, settings, segments, sequence numbers."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import NamedTuple

from appliance_sdk.wire.packet import FIN, SYN, Headers

_MASK = 0xFFFFFFFF
_END_OF_OPTIONS, _NOP, _MSS = 0, 1, 2
SMALLEST_MSS = 88
"""Below this a peer could have one buffer cut into tens of thousands of packets."""


class TcpState(enum.StrEnum):
    """The states of RFC 9293 §3.3.2, by their names there."""

    SYN_SENT = "SYN-SENT"
    SYN_RECEIVED = "SYN-RECEIVED"
    ESTABLISHED = "ESTABLISHED"
    FIN_WAIT_1 = "FIN-WAIT-1"
    FIN_WAIT_2 = "FIN-WAIT-2"
    CLOSE_WAIT = "CLOSE-WAIT"
    CLOSING = "CLOSING"
    LAST_ACK = "LAST-ACK"
    TIME_WAIT = "TIME-WAIT"
    CLOSED = "CLOSED"


OPENING = (TcpState.SYN_SENT, TcpState.SYN_RECEIVED)


@dataclass(slots=True, frozen=True)
class TcpSettings:
    """How a host's TCP behaves. Raises ValueError for numbers that cannot work."""

    mss: int = 1400
    """Most bytes a segment carries, said in SYNs; below 1460 so that encapsulation fits too."""
    window: int = 65535
    """Bytes of receive window advertised; there is no window scaling, so not more than 65,535."""
    rto_s: float = 1.0
    """First retransmission timeout (RFC 6298 §2.1); doubled each time, back to this on progress."""
    max_rto_s: float = 60.0
    """Where doubling stops (RFC 6298 §2.4)."""
    syn_retries: int = 5
    """Retransmissions of a SYN or SYN+ACK before the opening ends with "timeout"."""
    data_retries: int = 8
    """Retransmissions of the same bytes without an answer before the end with "timeout"."""
    time_wait_s: float = 2.0
    """TIME-WAIT: short, as there are no old duplicates of minutes in a simulated network."""
    fin_wait_s: float = 60.0
    """How long FIN-WAIT-2 stands silence before it ends with "timeout"; Linux's default."""
    keep_alive_s: float = 0.0
    """Silence after which a keep-alive probe is sent, and between probes; 0: none."""
    keep_alive_probes: int = 3
    """Unanswered probes before the end with "timeout"."""
    max_out_of_order: int = 256
    """Segments kept ahead of a gap; the window bounds their bytes."""
    send_buffer_bytes: int = 16 * 1024 * 1024
    """Bytes that `send` takes before the peer acknowledges any; more is refused."""
    keep_bytes: int = 16 * 1024 * 1024
    """How much of what arrives `received` keeps; the rest still reaches the app."""

    def __post_init__(self) -> None:
        if not SMALLEST_MSS <= self.mss <= 65495:
            raise ValueError(f"mss is {self.mss}: use {SMALLEST_MSS} to 65,495 bytes")
        if not 0 <= self.window <= 65535:
            raise ValueError(f"window is {self.window}: use 0 to 65,535 bytes")
        if not 0 < self.rto_s <= self.max_rto_s < math.inf:
            raise ValueError(f"rto_s is {self.rto_s}: use more than 0 and at most max_rto_s")
        for name in ("time_wait_s", "fin_wait_s", "keep_alive_s"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}: use 0 or more seconds")
        for name in ("syn_retries", "data_retries", "keep_alive_probes", "max_out_of_order"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: use 0 or more")
        if self.send_buffer_bytes < 1 or self.keep_bytes < 0:
            raise ValueError("send_buffer_bytes takes 1 or more bytes, keep_bytes 0 or more")


class Segment(NamedTuple):
    """One TCP segment as it arrived. `mss` is the option's value, 0 where there is none."""

    seq: int
    ack: int
    flags: int
    window: int
    payload: bytes
    mss: int

    @property
    def length(self) -> int:
        """How many sequence numbers it occupies (RFC 9293 §3.4)."""
        return len(self.payload) + bool(self.flags & SYN) + bool(self.flags & FIN)


def read_segment(packet: bytes, headers: Headers) -> Segment:
    """The segment in a packet whose headers were parsed; options that are broken count as none."""
    mss = _read_mss(packet[headers.transport + 20 : headers.payload]) if headers.flags & SYN else 0
    payload = packet[headers.payload : headers.end]
    return Segment(headers.seq, headers.ack, headers.flags, headers.window, payload, mss)


def unwrap(number: int, first: int, near: int) -> int:
    """The offset from `first` of a 32-bit sequence number, the one closest to the offset `near`.

    Offsets are plain integers that never wrap; sequence numbers do (RFC 9293 §3.4).
    """
    delta = (number - first - near) & _MASK
    return near + (delta - _MASK - 1 if delta > _MASK >> 1 else delta)


def wrap(first: int, offset: int) -> int:
    """The 32-bit sequence number at an offset from `first`."""
    return (first + offset) & _MASK


def _read_mss(options: bytes) -> int:
    at = 0
    while at < len(options) and options[at] != _END_OF_OPTIONS:
        if options[at] == _NOP:
            at += 1
            continue
        size = options[at + 1] if at + 1 < len(options) else 0
        if size < 2 or at + size > len(options):
            return 0
        if options[at] == _MSS and size == 4:
            return int.from_bytes(options[at + 2 : at + 4], "big")
        at += size
    return 0
