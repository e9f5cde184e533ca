"""The sans-IO heart: a datagram and the time in, a decision out."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from appliance_sdk.engine.agenda import Agenda
from appliance_sdk.engine.anomalies import Anomalies
from appliance_sdk.engine.answers import Answers
from appliance_sdk.engine.attachment import Attachment
from appliance_sdk.engine.decision import ASKED, DROP, FORWARD
from appliance_sdk.engine.encapsulation import Encapsulation
from appliance_sdk.engine.guard import Guard
from appliance_sdk.engine.holding import Holding, Tasks
from appliance_sdk.engine.host import Host
from appliance_sdk.engine.judge import Judge
from appliance_sdk.engine.lifecycle import Lifecycle
from appliance_sdk.engine.recording import Recording
from appliance_sdk.engine.settings import EngineSettings
from appliance_sdk.engine.shared import SharedState
from appliance_sdk.engine.state import restore_flow, save_flow, worth_saving
from appliance_sdk.engine.streams import Streams
from appliance_sdk.errors import MalformedPacket, PluginError
from appliance_sdk.flow.envelope import HEADER_BYTES
from appliance_sdk.flow.fragments import FragmentTable
from appliance_sdk.flow.lane import SHARD_MASK, SHARD_SHIFT, Lane
from appliance_sdk.flow.table import FlowTable
from appliance_sdk.flow.tcp import TcpState, TcpTracker
from appliance_sdk.plugin.cidr import CidrSet
from appliance_sdk.plugin.events import Event
from appliance_sdk.plugin.flow import Flow
from appliance_sdk.plugin.manager import Pipeline, Seat
from appliance_sdk.wire.packet import ACK, FIN, RST, SYN, Headers

if TYPE_CHECKING:
    from appliance_sdk.wire.buffer import Buffer

_ORIGINS_REMEMBERED = 4096

# A GENEVE header as GWLB sends it, see `split_header`, and an IPv4 packet without options behind.
# In the same byte order: the total length and the fragment field are compared, nothing else, too.
_USUAL = struct.Struct("<36sIBxHxxHxB2x12s").unpack_from
_LEAST = 28  # of the packet, with the shortest transport header, UDP's
# What stands behind the same header in an IPv6 packet: payload length, next header, both ends.
_USUAL_IPV6 = struct.Struct("<44xHBx36s").unpack_from
_LEAST_IPV6 = 48
_FRAGMENT = 0xFF3F  # all of the field but "don't fragment" and the bit that is reserved
_TCP_FIELDS = struct.Struct(">IIBB").unpack_from
_LONGEST = 9216
_SWAPPED = [(length & 0xFF) << 8 | length >> 8 for length in range(_LONGEST + 1)]
"""Total lengths as they look in the wrong byte order."""

_CONTROL = SYN | ACK | FIN | RST
_ESTABLISHED = int(TcpState.ESTABLISHED)


Divert: TypeAlias = Callable[
    [int, Headers, "Buffer", tuple[bytes, bytes, int, int, int], float], bool
]
"""Called with endpoint id, headers, buffer, and (peer, local, start of the datagram, start of the
inner packet, end), and the time."""


class Engine:
    """Judges every datagram of one worker. Nothing in it blocks or reads a clock.

    A data plane gives `receive` each datagram with its addresses and the time; what is to be sent
    beside or instead of it stands in `outbox`, as (peer, local, UDP payload) in sending order:
    from address `local` and the port in `peer` to the address in `peer`, port 6081. `peer` is six
    bytes, port and IPv4 address, as in a sockaddr_in.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        settings: EngineSettings,
        *,
        now: float,
        emit: Callable[[Event], None],
        log: Callable[..., None],
        debug: bool = False,
        first_flow_id: int = 1,
        shared: SharedState | None = None,
    ) -> None:
        self.now = now
        self.settings = settings
        self.pipeline = pipeline
        self.outbox: list[tuple[bytes, bytes, bytes]] = []
        self.divert: Divert | None = None
        """Asked about each fragment, where there are several workers: has another one got it?"""
        self.tasks: Tasks | None = None
        """Who runs what plugins wait for; the data plane sets it."""
        self.received = 0
        self.drops: Counter[str] = Counter()
        self.injected = 0
        """Packets of our own: resets, ICMP errors, replies."""
        self.edited = 0
        """Forwarded packets that a plugin edited."""
        self.shared = shared if shared is not None else SharedState(settings.shared)
        self.metrics: Counter[str] = Counter()
        """Counters of plugins: "plugin.metric"."""
        self._origins = CidrSet(settings.origins)
        self._origins_seen: set[bytes] = set()
        self._longest = min(settings.mtu_bytes, _LONGEST)
        self.guard = Guard(settings, log)
        self.table: FlowTable[Flow] = FlowTable(settings.max_flows)
        self._usual_lanes: list[dict[bytes, Lane[Flow]]] = [{}] * 256
        for protocol, lanes in self.table.usual.items():
            self._usual_lanes[protocol] = lanes
        self.answers = Answers(settings.rejects_per_s, self.send)
        self.fragments = FragmentTable()
        self.streams = Streams(settings, self.guard, self.detach)
        self.host = Host(self, emit, log)
        self.anomalies = Anomalies(self.host, now)
        self.encapsulation = Encapsulation(self.table)
        self.agenda = Agenda(self)
        self.attachment = Attachment(self)
        self.lifecycle = Lifecycle(self, first_flow_id)
        self.recording = Recording(self, settings.record)
        self.holding = Holding(self, settings.hold)
        self.judge = Judge(self, debug=debug)
        self._usual = self.judge.asking.usual
        self._opened = self.judge.opening.usual
        pipeline.bind(self.host)

    def start(self) -> None:
        """Call every plugin's `start`. Raises PluginError: such an appliance must not run."""
        for seat in self.pipeline.seats:
            if seat.start is not None:
                try:
                    seat.start()
                except Exception as error:  # a vendor's code may raise anything
                    raise PluginError(seat.name, f"start() failed: {error!r}") from error

    def load(self, plugin_name: str, data: Any, zones: Collection[str] | None = None) -> None:
        """Hand the result of a plugin's `load` to its instances, in all zones or in some.

        Raises PluginError.
        """
        for seat in self.pipeline.seats:
            mine = seat.name == plugin_name and (zones is None or seat.zone in zones)
            if mine and seat.loaded is not None:
                try:
                    seat.loaded(data)
                except Exception as error:  # a vendor's code may raise anything
                    raise PluginError(seat.name, f"loaded() failed: {error!r}") from error

    @property
    def forwarded(self) -> int:
        """Datagrams sent back, as received or edited."""
        return self.received - sum(self.drops.values()) - self.holding.packets

    @property
    def flow_count(self) -> int:
        """Flows in the table."""
        return len(self.table)

    @property
    def flows(self) -> Iterator[Flow]:
        """Every flow in the table."""
        return iter(self.table)

    @property
    def flows_opened(self) -> int:
        """Flows that were ever put into the table."""
        return self.lifecycle.opened

    @property
    def flows_closed(self) -> int:
        """Flows that ended."""
        return self.lifecycle.closed

    @property
    def degraded(self) -> dict[str, str]:
        """Plugins that cannot do their work, with the reason."""
        return self.guard.degraded

    def next_deadline(self) -> float:
        """When `advance` has something to do, math.inf if nothing is pending."""
        return min(self.agenda.next_deadline(), self.anomalies.next_deadline())

    def advance(self, now: float) -> None:
        """Run timers, expiry and rechecks that are due, a bounded number of each."""
        self.now = now
        self.agenda.advance(now)
        self.fragments.expire(now)
        self.table.forget_lanes()
        if now >= self.anomalies.next_deadline():
            self.anomalies.report(now)

    def close(self, now: float, reason: str = "shutdown") -> None:
        """End every flow and stop every plugin."""
        self.now = now
        self.lifecycle.close_all(reason)
        self.anomalies.report(now)

    def snapshot(self) -> Iterator[bytes]:
        """The state of every flow, one record each, for `restore` after a restart.

        A flow whose handlers cannot be saved is counted and left out, as in `restore`: one that
        fills its fields must not cost the others theirs. Those that are better met anew are left
        out as well: see `worth_saving`.
        """
        for flow in filter(worth_saving, list(self.table)):
            try:
                record = save_flow(flow, self.now)
            except PluginError as error:
                self.metrics["engine.state_refused"] += 1
                self.host.log("engine.state_refused", error=error)
            else:
                yield record

    def restore(self, records: Iterable[bytes], now: float) -> int:
        """Take flows up again where a snapshot left them; how many records could be used.

        A record that does not fit (a field changed its type, a plugin is gone) is counted and left
        out: its flow is then met in its middle, and the midstream policy applies.
        """
        self.now = now
        return sum(restore_flow(self, record) for record in records)

    def receive(
        self, buffer: Buffer, start: int, end: int, peer: bytes, local: bytes, now: float
    ) -> int:
        """Judge the UDP payload `buffer[start:end]`: FORWARD, DROP or REPLACED.

        `peer` and `local` are where it came from and went to, as in `outbox`.
        """
        self.now = now
        self.received += 1
        length = end - start - HEADER_BYTES
        if _LEAST <= length <= self._longest:
            head, cookie, version, total, fragment, protocol, ends = _USUAL(buffer, start)
            ip_bytes = 20
            if version == 0x45:
                usual = total == _SWAPPED[length] and not fragment & _FRAGMENT
            elif version & 0xF0 == 0x60 and length >= _LEAST_IPV6:
                ip_bytes = 40
                total, protocol, ends = _USUAL_IPV6(buffer, start)
                usual = total == _SWAPPED[length - ip_bytes]
            else:
                usual = False
            if usual:
                lane = self._usual_lanes[protocol].get(head)
                if lane is not None:
                    shard = lane.shards[hash(ends) >> SHARD_SHIFT & SHARD_MASK]
                    flow = shard.get(ends)
                    if flow is None:
                        if version == 0x45 and peer[2:] in self._origins_seen:
                            decision = self._opened(
                                lane, shard, head, cookie, ends, buffer, start, length, peer, local
                            )
                            if decision != ASKED:
                                return decision
                    elif (
                        cookie == flow._cookie
                        and head == (envelope := flow._envelope).head
                        and peer == flow.peer
                        and local == envelope.local
                    ):
                        if flow.tcp is not None:
                            decision = self._segment(
                                flow, flow.tcp, ends == flow.ends, buffer, start, length, ip_bytes
                            )
                            if decision != ASKED:
                                return decision
                        else:
                            to_server = ends == flow.ends
                            if to_server:
                                flow.packets_to_server += 1
                                flow.bytes_to_server += length
                            else:
                                flow.packets_to_client += 1
                                flow.bytes_to_client += length
                                if flow.half_open:
                                    self.lifecycle.answered(flow)
                            flow.last_seen = now
                            if flow.mode:
                                decision = self._usual(flow, to_server, buffer, start, length)
                                if decision != ASKED:
                                    return decision
                            return FORWARD
        if peer[2:] not in self._origins_seen and not self._known_origin(peer):
            return self.drop("origin")
        try:
            return self.judge.datagram(buffer, start, end, peer, local)
        except MalformedPacket as error:
            self.anomalies.add("packet", error.reason)
            return self.drop(error.reason)

    def _segment(
        self,
        flow: Flow,
        tcp: TcpTracker,
        to_server: bool,
        buffer: Buffer,
        start: int,
        length: int,
        ip_bytes: int,
    ) -> int:
        """A TCP segment of a known flow, behind an IP header of so many bytes; ASKED, and nothing
        done, if it needs a closer look."""
        if length < ip_bytes + 20:
            return ASKED
        seq, ack, offset, flags = _TCP_FIELDS(buffer, start + ip_bytes + 44)
        payload = length - ip_bytes - (offset >> 4 << 2)
        if offset < 0x50 or payload < 0 or flags & (SYN | ACK) == SYN or flags & RST:
            return ASKED
        if to_server:
            flow.packets_to_server += 1
            flow.bytes_to_server += length
        else:
            flow.packets_to_client += 1
            flow.bytes_to_client += length
        flow.last_seen = self.now
        if flow.mode:
            decision = self._usual(flow, to_server, buffer, start, length)
            if decision != ASKED:
                return decision
        if flags & _CONTROL == ACK and tcp.state == _ESTABLISHED:
            tcp.segment(to_server, seq, ack, payload)
            return FORWARD
        before = tcp.state
        tcp.advance(to_server, flags, seq, ack, payload)
        if tcp.state != before:
            self.lifecycle.tcp_changed(flow)
        return FORWARD

    def send(self, flow: Flow, packet: bytes) -> None:
        """Put a packet of our own into the outbox, in the newest encapsulation of its flow."""
        self.injected += 1
        self.outbox.append((flow.peer, flow.local, flow.header + packet))

    def drop(self, reason: str) -> int:
        """Count a packet that is not forwarded."""
        self.drops[reason] += 1
        return DROP

    def _known_origin(self, peer: bytes) -> bool:
        address = peer[2:]
        if address not in self._origins:
            return False
        if len(self._origins_seen) < _ORIGINS_REMEMBERED:
            self._origins_seen.add(bytes(address))
        return True

    def detach(self, flow: Flow, seat: Seat) -> None:
        """A plugin needs no more of a flow."""
        self.attachment.detach(flow, seat)
