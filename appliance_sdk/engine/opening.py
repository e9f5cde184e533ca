"""The short way of a packet that begins a flow: in GWLB's own header, a UDP datagram or a SYN."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from appliance_sdk.engine.decision import ASKED, FORWARD
from appliance_sdk.flow.direction import GUESSED, OPENED, is_served
from appliance_sdk.flow.envelope import HEADER_BYTES, WHOLE
from appliance_sdk.flow.tcp import TcpTracker
from appliance_sdk.plugin.flow import Flow
from appliance_sdk.wire.geneve import build_geneve, geneve_identity
from appliance_sdk.wire.packet import ACK, FIN, RST, SYN, parse_packet

if TYPE_CHECKING:
    from appliance_sdk.engine.engine import Engine
    from appliance_sdk.engine.judge import Judge
    from appliance_sdk.flow.lane import Lane
    from appliance_sdk.plugin.manager import Zone
    from appliance_sdk.wire.buffer import Buffer

_TCP = 6
_HEADS_KNOWN = 4096
_FIRST_MULTICAST = 0xE0
_PORTS = struct.Struct(">HH").unpack_from
_TCP_FIELDS = struct.Struct(">IxxxxBB").unpack_from
_CONTROL = SYN | ACK | FIN | RST


class Opening:
    """Opens most of the flows of one engine.

    A storm of new flows is an attack that the packets of all others have to live with: what such a
    packet costs is what counts here. Everything unusual is left to the judge.
    """

    def __init__(self, engine: Engine, judge: Judge, *, debug: bool) -> None:
        self._engine = engine
        self._judge = judge
        self._debug = debug
        self._table = engine.table
        self._lifecycle = engine.lifecycle
        self._packet = judge.asking.one_view
        self._zones: dict[bytes, Zone] = {}
        """By the header before the cookie: those that were read in full once, and are as GWLB
        sends them."""

    def learn(self, flow: Flow) -> None:
        """A flow is opened whose IPv4 packet came with this header: others may come likewise."""
        head = flow._envelope.head
        if self._debug or flow._cookie == WHOLE or head in self._zones:
            return
        attachment_id, cookie = geneve_identity(flow.header)
        usual = build_geneve(flow.lane.endpoint_id, cookie, attachment_id=attachment_id)
        if flow.header == usual:
            if len(self._zones) >= _HEADS_KNOWN:
                self._zones.clear()
            self._zones[head] = flow._zone

    def usual(
        self,
        lane: Lane[Flow],
        shard: dict[bytes, Flow],
        head: bytes,
        cookie: int,
        ends: bytes,
        buffer: Buffer,
        start: int,
        length: int,
        peer: bytes,
        local: bytes,
    ) -> int:
        """A packet of `length` bytes without IP options in a datagram at `start`, from a node that
        may send; its ends are in the lane, in that shard, if anywhere, and are not there. `head`
        and `cookie` are its header, see `split_header`.

        ASKED, and nothing done, if it needs a closer look.
        """
        zone = self._zones.get(head)
        answer = ends[4:8] + ends[:4] + ends[10:] + ends[8:10]
        if zone is None or lane.gone or ends[4] >= _FIRST_MULTICAST or answer == ends:
            return ASKED
        engine, lifecycle = self._engine, self._lifecycle
        tcp, first, seq, payload = None, OPENED, 0, 0
        if lane.protocol == _TCP:
            if length < 40:
                return ASKED
            seq, offset, flags = _TCP_FIELDS(buffer, start + 64)
            payload = length - 20 - (offset >> 4 << 2)
            if flags & _CONTROL != SYN or offset < 0x50 or payload < 0:
                return ASKED
            tcp = TcpTracker(False)
            # Also if the SYN is refused now: sent again, it must find this flow and its verdict.
            tcp.opening_seq = seq
        else:
            source_port, destination_port = _PORTS(ends, 8)
            if not is_served(destination_port, source_port):
                first = GUESSED
        if self._table.full and not lifecycle.make_room():
            return ASKED
        flow = lifecycle.begin(lane, ends, zone, tcp, first)
        flow._envelope = engine.encapsulation.one_envelope(head, local)
        flow._cookie = cookie
        flow.peer = engine.encapsulation.one_peer(peer)
        packet = self._packet
        inner = start + HEADER_BYTES
        packet.refill(buffer, inner, inner + length, None, True)
        host = engine.host
        host.judged = flow
        verdict, seat = lifecycle.ask(flow)
        host.judged = None
        packet.retire()
        if verdict is None and not flow.mode:
            lifecycle.admit_usual(flow, shard, answer)
            flow.packets_to_server = 1
            flow.bytes_to_server = length
            if tcp is not None:
                tcp.opened(seq, payload)
            return FORWARD
        headers = parse_packet(buffer, inner, inner + length)
        place = peer, local, buffer, start, inner
        return self._judge.asked(flow, True, verdict, seat, headers, place, inner + length)
