"""The state of a flow under inspection, and its way from packets and streams to verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance_sdk import Chunk, FlowHandler, Outcome, Packet, Verdict
from reference_appliances.ids.header import Ends
from reference_appliances.ids.judgement import Judgement, judge
from reference_appliances.ids.lane import LOOKBACK, Lane
from reference_appliances.ids.option import Subject

if TYPE_CHECKING:
    from reference_appliances.ids.compiled import CompiledRule
    from reference_appliances.ids.ids import Ids

_SYN, _RST, _ACK = 0x02, 0x04, 0x10
_UNKNOWN = 1 << 40
"""The position of a stream's bytes when its beginning is not known: nothing counts from there."""


class PacketInspector(FlowHandler["Ids"]):
    """Inspects the packets of a flow, each by itself."""

    matched_to_server: set[int] = set()
    """Ids of the rules that count once and have matched, so that a restart reports none again."""
    matched_to_client: set[int] = set()
    passed: bool = False
    """A pass rule has matched: nobody looks at this flow any more."""

    _lanes: dict[bool, Lane] = {}
    _skip: bool = False

    def lane(self, to_server: bool) -> Lane:
        """The rules of one direction, found when its first packet comes."""
        lane = self._lanes.get(to_server)
        if lane is None:
            flow = self.flow
            ends = Ends.of(flow)
            matched = self.matched_to_server if to_server else self.matched_to_client
            ends = ends if to_server else ends.turned()
            lane = self._lanes[to_server] = Lane(self.plugin.detector, ends, to_server, matched)
        return lane

    def forget_rules(self) -> None:
        """There are other rules now; what has matched stays known."""
        self._lanes = {}

    def packet(self, packet: Packet) -> Outcome:
        """Rules about addresses, then those about this packet."""
        return self._packet(packet, tracked=False)

    def _packet(self, packet: Packet, *, tracked: bool) -> Outcome:
        lane = self.lane(packet.to_server)
        self._skip = False
        found = lane.first()
        if lane.wants_packets or not tracked:
            found = found + self._try(lane, packet, tracked=tracked)
        if not found:
            return None
        judgement = self._report(found, packet.to_server, stream=False)
        self._skip = judgement.passed
        return judgement.verdict

    def _try(self, lane: Lane, packet: Packet, *, tracked: bool) -> list[CompiledRule]:
        tcp = packet.tcp
        payload = packet.payload
        subject = Subject(
            payload,
            to_server=packet.to_server,
            established=self._is_established(bool(payload)),
            flags=tcp.flags if tcp is not None else -1,
        )
        return lane.packet(subject, tracked=tracked)

    def _is_established(self, has_payload: bool) -> bool:
        """What `flow:established` means for a packet. TCP without its stream never is."""
        return self.flow.established and self.flow.tcp is None

    def _report(self, found: list[CompiledRule], to_server: bool, *, stream: bool) -> Judgement:
        plugin: Ids = self.plugin
        flow = self.flow

        def weigh(match: CompiledRule) -> tuple[bool, bool]:
            return plugin.weigh(match, flow, to_server=to_server)

        judgement = judge(found, stream=stream, prevent=plugin.prevents, weigh=weigh)
        plugin.report(judgement.reported, self.flow, to_server=to_server)
        self.passed |= judgement.verdict == Verdict.DONE
        return judgement


class StreamInspector(PacketInspector):
    """Inspects a TCP connection: its packets, and the stream in each direction."""

    lookback = LOOKBACK
    late: bool = False
    """The inspection began behind the beginning of the streams."""

    _completes: bool = False

    def restored(self) -> None:
        """The streams' beginnings went by in another process."""
        self.late = True

    def packet(self, packet: Packet) -> Outcome:
        """Also: whether this packet completes the handshake, perhaps together with data."""
        if not self.flow.established:
            flags = packet.tcp.flags if packet.tcp is not None else 0
            ends_handshake = flags & (_SYN | _RST | _ACK) == _ACK
            self._completes = ends_handshake and self.flow.to_client.packets > 0
        return self._packet(packet, tracked=True)

    def _is_established(self, has_payload: bool) -> bool:
        return self.flow.established or (self._completes and has_payload)

    def data(self, chunk: Chunk) -> Outcome:
        """Rules about the stream."""
        if self._skip:
            return None
        subject = Subject(
            chunk.data,
            to_server=chunk.to_server,
            established=self.flow.established or self._completes,
            base=chunk.offset - chunk.fresh + (_UNKNOWN if self.late else 0),
            stream=True,
        )
        found = self.lane(chunk.to_server).stream(subject, chunk.fresh)
        if not found:
            return None
        return self._report(found, chunk.to_server, stream=True).verdict
