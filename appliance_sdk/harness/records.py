"""From what is seen of packets to the records of a capture: where, which way, what became of it."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import NamedTuple

from appliance_sdk.harness.trace import Hop, Outer, Sighting, Transit
from appliance_sdk.version import __version__
from appliance_sdk.wire import build_udp
from appliance_sdk.wire.capture import RAW
from appliance_sdk.wire.pcapng_writer import PcapngWriter, Towards, Writable

_TOWARDS: dict[str, Towards] = {
    "sent": "out",
    "decapsulated": "out",
    "encapsulated": "out",
    "made": "out",
    "returned": "out",
    "delivered": "in",
    "endpoint": "in",
    "received": "in",
    "dropped": "in",
}
_ON_THE_LINK = ("corrupted", "truncated", "delayed", "duplicated", "reordered", "late")
"""What a fault did to a packet that arrives all the same: said where it does."""
_ENDS = ("dropped", "lost", "kept")


class Record(NamedTuple):
    """One packet on one interface of a capture."""

    time: float
    interface: str
    at: str
    """The place, by its name: of "kept by appliance-1" and "to appliance-1" it is the target."""
    packet: bytes
    outer: Outer | None
    towards: Towards
    number: int
    comments: tuple[str, ...]


def make_record(sighting: Sighting) -> Record | None:
    """The record of what is seen now; None if that is nothing new.

    A place has each packet once when it comes and once when it leaves. Packets that end on a link
    or in an appliance have interfaces of their own ("to appliance-1", "kept by appliance-1"), so
    that the others show what there was to see.
    """
    hop, transit, packet, outer = sighting
    if hop.event in _ON_THE_LINK or (hop.event not in _ENDS and _was_there(transit, hop)):
        return None
    interface = f"kept by {hop.place}" if hop.event == "kept" else hop.place
    at = hop.place.partition(" ")[2] if hop.event == "lost" else hop.place
    towards = _TOWARDS.get(hop.event, "")
    comments = _comments(transit, hop)
    return Record(hop.time, interface, at, packet, outer, towards, transit.number, comments)


class RecordWriter:
    """Writes records as pcapng: raw IP, those of GENEVE with their outer IPv4 and UDP headers.

    `describe` says what a place is.
    """

    def __init__(self, file: Writable, describe: Mapping[str, str], comment: str = "") -> None:
        self._describe = describe
        self._interfaces: dict[str, int] = {}
        application = f"appliance-sdk {__version__}"
        self._writer = PcapngWriter(file, application=application, comment=comment)

    def write(self, record: Record) -> None:
        """Write one; its interface is described before its first packet."""
        interface = self._interfaces.get(record.interface)
        if interface is None:
            description = self._describe.get(record.at, "")
            interface = self._writer.interface(record.interface, RAW, description=description)
            self._interfaces[record.interface] = interface
        packet = record.packet if record.outer is None else with_headers(record.outer)
        self._writer.packet(
            interface,
            record.time,
            packet,
            towards=record.towards,
            number=record.number,
            comments=record.comments,
        )


def with_headers(outer: Outer) -> bytes:
    """A GENEVE datagram with its IPv4 and UDP headers."""
    (source, port), (destination, to_port), payload = outer
    ends = ipaddress.ip_address(source).packed, ipaddress.ip_address(destination).packed
    return build_udp(*ends, port, to_port, payload=payload)


def _was_there(transit: Transit, hop: Hop) -> bool:
    """Whether the packet comes from the place where it is."""
    for earlier in reversed(transit.hops):
        if earlier is not hop and earlier.event not in _ON_THE_LINK:
            return earlier.place == hop.place
    return False


def _comments(transit: Transit, hop: Hop) -> tuple[str, ...]:
    comments = []
    if hop.event in ("dropped", "lost"):
        comments.append(f"{hop.event}: {hop.detail}")
    elif hop.event in ("made", "kept", "returned") and hop.detail != "unaltered":
        comments.append(f"{hop.event} {hop.detail}")
    for earlier in reversed(transit.hops):
        if earlier.event in _ON_THE_LINK:
            comments.append(f"{earlier.event} on the way {earlier.place}: {earlier.detail}")
        elif earlier is not hop:
            break
    return tuple(comments)
