"""Turns frames of a capture into the datagrams that GWLB would have sent."""

from __future__ import annotations

import socket
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from appliance_sdk.dataplane.memory import Datagram
from appliance_sdk.errors import ConfigError, MalformedPacket
from appliance_sdk.wire.capture import Frame, inner_packet, read_capture
from appliance_sdk.wire.geneve import (
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    PORT,
    build_geneve,
    parse_endpoint,
)
from appliance_sdk.wire.packet import UDP, Headers, parse_packet

DEFAULT_ENDPOINT = "vpce-0a1b2c3d4e5f60718"
NODE, LOCAL = "10.9.0.11", "10.9.1.21"
"""Where plain packets are said to come from and go to: a GWLB node, an appliance."""

_NODE, _LOCAL = socket.inet_aton(NODE), socket.inet_aton(LOCAL)
_FIRST_PORT = 1024


class Capture:
    """The frames of a capture file, as far as it can be read.

    Iterating raises ConfigError if there is nothing to read.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self.damage = ""
        """What ended the frames before the file did, "" if nothing."""

    def __iter__(self) -> Iterator[Frame]:
        any_frame = False
        try:
            for frame in read_capture(self._path):
                any_frame = True
                yield frame
        except ConfigError as error:
            if not any_frame:
                raise
            self.damage = str(error)


class Outer(NamedTuple):
    """What GWLB adds to a packet: the flow's source port and the GENEVE header."""

    port: int
    header: bytes


class Encapsulator:
    """Makes one datagram of each frame; both directions of a flow get one cookie and one port.

    Frames that are GENEVE already stay as they are, with their own outer addresses. If they were
    recorded at an appliance, each packet is there twice, to it and back: the second is no packet
    of its own.
    """

    def __init__(self, endpoint: str = DEFAULT_ENDPOINT) -> None:
        self._endpoint_id = parse_endpoint(endpoint)
        self._ways: set[tuple[bytes, bytes]] = set()

    def datagram(self, frame: Frame) -> Datagram | None:
        """The datagram, None if it is an appliance's recorded answer.

        Raises MalformedPacket for a frame in which no IP packet can be found. What is wrong
        further in is left for the engine to find.
        """
        start, end = inner_packet(frame)
        try:
            headers = parse_packet(frame.data, start, end)
        except MalformedPacket:
            headers = None
        if headers is not None:
            if _is_geneve(headers):
                return self._recorded(frame.data, headers)
            end = headers.end
        packet = frame.data[start:end]
        outer = encapsulation(packet, headers, self._endpoint_id)
        peer = outer.port.to_bytes(2, "big") + _NODE
        return Datagram(peer, _LOCAL, outer.header + packet)

    def _recorded(self, data: bytes, headers: Headers) -> Datagram | None:
        node, local = bytes(headers.source), bytes(headers.destination)
        if (local, node) in self._ways:
            return None
        self._ways.add((node, local))
        peer = headers.source_port.to_bytes(2, "big") + node
        return Datagram(peer, local, bytes(data[headers.payload : headers.end]))


def encapsulation(packet: bytes, headers: Headers | None, endpoint_id: int) -> Outer:
    """Port and header for a plain packet; `headers` None for one that cannot be parsed.

    The cookie is a hash of the flow, the same for both directions; fragments have no ports.
    """
    digest = 0
    if headers is not None:
        ports = (0, 0)
        if not headers.is_fragment:
            ports = headers.source_port, headers.destination_port
        ends = sorted(
            address + port.to_bytes(2, "big")
            for address, port in zip((headers.source, headers.destination), ports, strict=True)
        )
        digest = zlib.crc32(b"".join(ends), headers.protocol)
    six = packet[:1] != b"" and packet[0] >> 4 == 6
    ethertype = ETHERTYPE_IPV6 if six else ETHERTYPE_IPV4
    port = _FIRST_PORT + digest % (0x10000 - _FIRST_PORT)
    return Outer(port, build_geneve(endpoint_id, digest, ethertype=ethertype))


def _is_geneve(headers: Headers) -> bool:
    return (
        headers.version == 4
        and headers.protocol == UDP
        and headers.destination_port == PORT
        and not headers.is_fragment
    )
