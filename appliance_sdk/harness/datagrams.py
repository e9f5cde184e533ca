"""What went between load balancer and appliances: kept, shown, and written as a capture."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from appliance_sdk.errors import MalformedPacket
from appliance_sdk.harness.trace import describe
from appliance_sdk.wire import build_udp, parse_geneve
from appliance_sdk.wire.capture import CaptureWriter

_LIMIT = 100_000
_SHOWN = 40


class OuterDatagram(NamedTuple):
    """One GENEVE datagram. `source` and `destination` are address and UDP port."""

    time: float
    direction: str
    """"to_target" or "from_target"."""
    source: tuple[str, int]
    destination: tuple[str, int]
    payload: bytes

    @property
    def header(self) -> bytes:
        """The GENEVE header with its options. Raises MalformedPacket."""
        return self.payload[: parse_geneve(self.payload, 0, len(self.payload)).length]

    @property
    def inner(self) -> bytes:
        """The packet inside. Raises MalformedPacket."""
        return self.payload[parse_geneve(self.payload, 0, len(self.payload)).length :]


class Capture:
    """Every outer datagram, in order; the first 100,000 are kept."""

    def __init__(self) -> None:
        self.datagrams: list[OuterDatagram] = []
        self.missed = 0
        """How many came after the limit."""

    def __call__(
        self,
        time: float,
        direction: str,
        source: tuple[str, int],
        destination: tuple[str, int],
        payload: bytes,
    ) -> None:
        """Take a datagram: what `Harness(tap=…)` calls."""
        if len(self.datagrams) >= _LIMIT:
            self.missed += 1
            return
        self.datagrams.append(OuterDatagram(time, direction, source, destination, payload))

    @property
    def to_target(self) -> list[OuterDatagram]:
        """What the load balancer sent."""
        return [one for one in self.datagrams if one.direction == "to_target"]

    @property
    def from_target(self) -> list[OuterDatagram]:
        """What the appliances sent."""
        return [one for one in self.datagrams if one.direction == "from_target"]

    def write(self, path: str | Path) -> None:
        """Write a capture that Wireshark reads: outer IPv4, UDP, GENEVE."""
        with CaptureWriter(path) as writer:
            for one in self.datagrams:
                (source, port), (destination, to_port) = one.source, one.destination
                ends = ipaddress.ip_address(source).packed, ipaddress.ip_address(destination).packed
                packet = build_udp(*ends, port, to_port, payload=one.payload)
                writer.write(one.time, packet)

    def text(self) -> str:
        """The last of them, a line each."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        for one in self.datagrams[-_SHOWN:]:
            arrow = "->" if one.direction == "to_target" else "<-"
            target = one.destination if one.direction == "to_target" else one.source
            try:
                inner = describe(one.inner)
            except MalformedPacket as error:
                inner = f"no GENEVE ({error.reason}), {len(one.payload)} bytes"
            yield f"{one.time:10.4f}  {arrow} {target[0]}  {inner}"
