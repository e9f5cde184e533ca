"""The right IDS: the right appliance, which looks for the suite's signatures and stops some.

It passes every case of the ids profile.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from appliance_sdk.conformance.case import Profile
from appliance_sdk.conformance.compare import Reply
from appliance_sdk.conformance.features import Features
from appliance_sdk.conformance.policy_files import POLICY
from mutants import refusals
from mutants.headers import Header
from mutants.packets import RST, SYN, TCP, UDP, Packet
from mutants.right import Flow, Key, Outer, Right
from mutants.streams import Stream

Signature = dict[str, Any]


class RightIds(Right):
    """Reports what a signature describes, once for each flow, and stops it if it says so."""

    profiles: ClassVar = (Profile.IDS,)
    features = Features(prevention=True, streams=True, reject=True)
    signatures: ClassVar[list[Signature]] = json.loads(POLICY.read_text())["signatures"]

    def __init__(self, emit: Callable[..., None] = lambda _: None, now: float = 0.0) -> None:
        super().__init__(emit, now)
        self.emit = emit
        self.opened_flows = 0
        self.fragments: dict[Key, dict[int, Packet]] = {}

    def forwards(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        """Whether a packet passes; what is found in it is reported."""
        if packet.piece is not None:
            whole = self.together(packet, header)
            if whole is None:
                return True
            packet = whole
            flow = self.flow(packet, header, flow.outer, now)
        if self.is_stopped(flow):
            return False
        return self.inspected(flow, packet, header, now)

    def inspected(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        """Look for every signature; False if the packet must not pass."""
        data = self.looked_at(flow, packet)
        if data is None:
            return False
        for signature in self.found(flow, packet, data):
            self.report(signature, flow, packet, header, now)
            if signature["action"] != "alert":
                flow.notes["stopped"] = signature["action"]
        return not self.is_stopped(flow)

    def is_stopped(self, flow: Flow) -> bool:
        """Whether nothing of a flow passes any more."""
        return "stopped" in flow.notes

    def judge(self, packet: Packet, header: Header, outer: Outer, now: float) -> list[Reply]:
        """As every appliance; who is rejected is told."""
        replies = super().judge(packet, header, outer, now)
        flow = self.flows.get(self.key(packet, header))
        if replies or flow is None or flow.notes.get("stopped") != "reject":
            return replies
        flow.notes["stopped"] = "told"
        return [
            Reply(self.reply_source(flow, outer), self.reply_to(flow, outer), header.raw + made)
            for made in self.resets(packet)
        ]

    def resets(self, packet: Packet) -> list[bytes]:
        """RFC 5961 §3: to each end with the number that it expects next."""
        acknowledged = int.from_bytes(packet.body[8:12], "big")
        turned = packet._replace(
            source=packet.destination, destination=packet.source, ports=packet.ports[::-1]
        )
        return [
            refusals.reset_to(packet, flags=RST, seq=acknowledged, ack=0),
            refusals.reset_to(turned, flags=RST, seq=packet.sequence, ack=0),
        ]

    # Flows and their ends.

    def opened(self, key: Key, flow: Flow) -> Flow:
        """Number it."""
        self.opened_flows += 1
        flow.notes["id"] = self.opened_flows
        return super().opened(key, flow)

    def to_server(self, flow: Flow, packet: Packet) -> bool:
        """Whether the client sent it: who sent the first packet, or the first SYN+ACK got it."""
        if "client" not in flow.notes:
            answer = packet.protocol == TCP and (
                packet.flags & 0x12 == 0x12 or (not packet.flags & SYN and self.from_server(packet))
            )
            flow.notes["client"] = packet.destination if answer else packet.source
        return bool(flow.notes["client"] == packet.source)

    def from_server(self, packet: Packet) -> bool:
        """In a connection's middle the lower port is the server's."""
        return packet.ports[0] < packet.ports[1]

    # Where it looks.

    def looked_at(self, flow: Flow, packet: Packet) -> tuple[bytes, int] | None:
        """The bytes to search, and from where on they are new; None: they may not pass."""
        to_server = self.to_server(flow, packet)
        if packet.protocol == UDP:
            return self.datagram(packet), 0
        if packet.protocol != TCP or not any(packet.ports):
            return b"", 0
        if not self.is_sound(packet):
            return b"", 0
        return self.stream(flow, packet, to_server)

    def datagram(self, packet: Packet) -> bytes:
        """What UDP carries."""
        return packet.body[8 : int.from_bytes(packet.body[4:6], "big")]

    def is_sound(self, packet: Packet) -> bool:
        """RFC 9293 §3.10.7: its receiver ignores a segment whose checksum is wrong."""
        return refusals.is_summed(packet)

    def stream(self, flow: Flow, packet: Packet, to_server: bool) -> tuple[bytes, int] | None:
        """All of a direction that is whole; None if other bytes were seen in the same place."""
        first = packet.sequence + bool(packet.flags & SYN)
        stream = flow.notes.get(to_server)
        if stream is None:
            stream = flow.notes[to_server] = Stream(first)
        place = stream.place(first)
        if not packet.data or not self.is_inside(stream, place, packet.data):
            return b"", 0
        if not self.may_replace(stream, place, packet.data):
            return None
        before = stream.add(place, packet.data)
        return bytes(stream.whole), before

    def is_inside(self, stream: Stream, place: int, data: bytes) -> bool:
        """RFC 9293 §3.10.7.4: its receiver ignores what is before or far beyond."""
        return stream.takes(place, data)

    def may_replace(self, stream: Stream, place: int, data: bytes) -> bool:
        """Which of two that differ a receiver takes is not known: only one may arrive."""
        return stream.agrees(place, data)

    def together(self, packet: Packet, header: Header) -> Packet | None:
        """The datagram of which this was the last fragment that was missing."""
        assert packet.piece is not None
        ends = packet.source, packet.destination, packet.protocol, packet.piece.identification
        pieces = self.fragments.setdefault((header.endpoint, *ends), {})
        pieces[packet.piece.offset] = packet
        body = b""
        for at in sorted(pieces):
            if at != len(body):
                return None
            body += pieces[at].body
        last = pieces[max(pieces)].piece
        if last is None or last.more:
            return None
        return self.transport(packet._replace(body=body, piece=None))

    # What it finds.

    def found(self, flow: Flow, packet: Packet, data: tuple[bytes, int]) -> Iterator[Signature]:
        """The signatures that are in the bytes, and were not in this flow before."""
        searched, new = data
        seen = flow.notes.setdefault("seen", set())
        for signature in self.signatures:
            if self.describes(signature, flow, packet) and signature["sid"] not in seen:
                content = bytes.fromhex(signature["content_hex"])
                begin = max(new - len(content) + 1, 0)
                if self.holds(searched[begin:], content, bool(signature["nocase"])):
                    seen.add(signature["sid"])
                    yield signature

    def describes(self, signature: Signature, flow: Flow, packet: Packet) -> bool:
        """Whether protocol, the server's port and direction are a signature's."""
        to_server = self.to_server(flow, packet)
        return bool(
            signature["protocol"] == ("tcp" if packet.protocol == TCP else "udp")
            and signature["port"] == packet.ports[1 if to_server else 0]
            and signature["direction"] == ("to_server" if to_server else "to_client")
        )

    def holds(self, data: bytes, content: bytes, nocase: bool) -> bool:
        """Whether content is in data."""
        return content.lower() in data.lower() if nocase else content in data

    def report(
        self, signature: Signature, flow: Flow, packet: Packet, header: Header, now: float
    ) -> None:
        """An EVE record."""
        self.emit(
            {
                "timestamp": self.time(now),
                "event_type": "alert",
                "flow_id": flow.notes["id"],
                "src_ip": str(ipaddress.ip_address(packet.source)),
                "src_port": packet.ports[0],
                "dest_ip": str(ipaddress.ip_address(packet.destination)),
                "dest_port": packet.ports[1],
                "proto": "TCP" if packet.protocol == TCP else "UDP",
                "alert": {
                    "signature_id": signature["sid"],
                    "signature": signature["message"],
                    "action": self.action(signature),
                },
                "gwlb": {"vpce_id": f"vpce-{header.endpoint:017x}"},
            }
        )

    def time(self, now: float) -> str:
        """ISO 8601."""
        return f"2026-01-01T00:{now // 60 % 60:02.0f}:{now % 60:09.6f}+0000"

    def action(self, signature: Signature) -> str:
        """Whether it passed."""
        return "allowed" if signature["action"] == "alert" else "blocked"
