"""The sans-IO heart: a datagram and the time in, a decision out."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from appliance_sdk.engine.answers import Answers
from appliance_sdk.engine.decision import ASKED, DROP, FORWARD
from appliance_sdk.engine.guard import Guard
from appliance_sdk.engine.holding import Holding, Tasks
from appliance_sdk.engine.host import Host
from appliance_sdk.engine.judge import Judge
from appliance_sdk.engine.lifecycle import Lifecycle
from appliance_sdk.engine.recording import Recording
from appliance_sdk.engine.settings import EngineSettings
from appliance_sdk.engine.shared import SharedState
from appliance_sdk.engine.state import restore_flow, save_flow
from appliance_sdk.engine.streams import Streams
from appliance_sdk.errors import MalformedPacket, PluginError
from appliance_sdk.flow.fragments import FragmentTable
from appliance_sdk.flow.table import SHARD_MASK, FlowTable
from appliance_sdk.plugin.cidr import CidrSet
from appliance_sdk.plugin.events import Anomaly, Event
from appliance_sdk.plugin.flow import Flow
from appliance_sdk.plugin.manager import Pipeline, Seat
from appliance_sdk.wire.packet import ACK, RST, SYN, Headers

if TYPE_CHECKING:
    from appliance_sdk.wire.buffer import Buffer

_TCP = 6
_WITH_PORTS = (6, 17)
_ORIGINS_REMEMBERED = 4096
_ANOMALY_PERIOD_S = 1.0

# The header GWLB has always been seen to send, and an IPv4 packet without options behind it.
_USUAL = struct.Struct(">IIIQIQII BxHxxHxB2x4s4sHH")
_USUAL_BYTES = 68  # with the shortest transport header, UDP's
_TCP_FIELDS = struct.Struct(">IIBBH")
_W0, _T1, _T2, _T3 = 0x08000800, 0x01080102, 0x01080202, 0x01080301
_NO_FRAGMENT = 0x3FFF


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
        self._mtu = settings.mtu_bytes
        self._anomalies: Counter[tuple[str, str]] = Counter()
        self._anomalies_at = now
        self.guard = Guard(settings, log)
        self.table: FlowTable[Flow] = FlowTable(settings.max_flows)
        self._shards = self.table.shards
        self.answers = Answers(settings.rejects_per_s, self.send)
        self.fragments = FragmentTable()
        self.streams = Streams(settings, self.guard, self.detach)
        self.host = Host(self, emit, log)
        self.lifecycle = Lifecycle(self, first_flow_id)
        self.recording = Recording(self, settings.record)
        self.holding = Holding(self, settings.hold)
        self.judge = Judge(self, debug=debug)
        self._usual = self.judge.asking.usual
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
        deadline = self.lifecycle.next_deadline()
        if self._anomalies:
            deadline = min(deadline, self._anomalies_at + _ANOMALY_PERIOD_S)
        return deadline

    def advance(self, now: float) -> None:
        """Run timers, expiry and rechecks that are due, a bounded number of each."""
        self.now = now
        self.lifecycle.advance(now)
        self.fragments.expire(now)
        if self._anomalies and now >= self._anomalies_at + _ANOMALY_PERIOD_S:
            self._report_anomalies()

    def close(self, now: float, reason: str = "shutdown") -> None:
        """End every flow and stop every plugin."""
        self.now = now
        self.lifecycle.close_all(reason)
        self._report_anomalies()

    def snapshot(self) -> Iterator[bytes]:
        """The state of every flow, one record each, for `restore` after a restart.

        A flow whose handlers cannot be saved is counted and left out, as in `restore`: one that
        fills its fields must not cost the others theirs.
        """
        for flow in list(self.table):
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
        if peer[2:] not in self._origins_seen and not self._known_origin(peer):
            return self.drop("origin")
        if end - start >= _USUAL_BYTES:
            (w0, vni, t1, eid, t2, _att, t3, cookie, ver, total, frag, proto, src, dst, sp, dp) = (
                _USUAL.unpack_from(buffer, start)
            )
            if (
                w0 == _W0
                and vni == 0
                and t1 == _T1
                and t2 == _T2
                and t3 == _T3
                and ver == 0x45
                and not frag & _NO_FRAGMENT
                and 28 <= total <= end - start - 40
                and total <= self._mtu
                and proto in _WITH_PORTS
            ):
                shard = self._shards[sp + dp + src[3] + dst[3] & SHARD_MASK]
                entry = shard.get((eid, proto, src, dst, sp, dp))
                usual = entry is not None
                if usual and proto == _TCP:
                    usual = total >= 40
                    if usual:
                        seq, ack, offset, flags, window = _TCP_FIELDS.unpack_from(
                            buffer, start + 64
                        )
                        length = total - 20 - (offset >> 4 << 2)
                        usual = offset >= 0x50 and length >= 0 and flags & (SYN | ACK) != SYN
                        usual = usual and not flags & RST
                if usual and entry is not None:
                    flow, to_server = entry
                    stats = flow.to_server if to_server else flow.to_client
                    stats.packets += 1
                    stats.bytes += total
                    flow.last_seen = now
                    if cookie != flow.cookie or peer != flow.encapsulation[0]:
                        self.encapsulate(flow, buffer, start, 40, cookie, peer, local)
                    tcp = flow.tcp
                    if tcp is None and flow.half_open and not to_server:
                        self.lifecycle.answered(flow)
                    if flow.mode:
                        decision = self._usual(
                            flow, to_server, buffer, start, start + 40 + total, peer, local
                        )
                        if decision != ASKED:
                            return decision
                    if tcp is not None:
                        before = tcp.state
                        tcp.advance(to_server, flags, seq, ack, length, window)
                        if tcp.state != before:
                            self.lifecycle.tcp_changed(flow)
                    return FORWARD
        try:
            return self.judge.datagram(buffer, start, end, peer, local)
        except MalformedPacket as error:
            self.anomaly("packet", error.reason)
            return self.drop(error.reason)

    def send(self, flow: Flow, packet: bytes) -> None:
        """Put a packet of our own into the outbox, in the newest encapsulation of its flow."""
        peer, local, header = flow.encapsulation
        self.injected += 1
        self.outbox.append((peer, local, header + packet))

    def encapsulate(
        self,
        flow: Flow,
        buffer: Buffer,
        start: int,
        length: int,
        cookie: int,
        peer: bytes,
        local: bytes,
    ) -> None:
        """Remember the newest encapsulation: GWLB drops what comes back with an old cookie."""
        flow.cookie = cookie
        flow.encapsulation = (bytes(peer), local, bytes(buffer[start : start + length]))

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

    def anomaly(self, layer: str, reason: str) -> None:
        """Remember traffic that breaks a rule; it is reported in sum, once a second."""
        self._anomalies[layer, reason] += 1

    def detach(self, flow: Flow, seat: Seat) -> None:
        """A plugin needs no more of a flow."""
        self.lifecycle.detach(flow, seat)

    def _report_anomalies(self) -> None:
        for (layer, reason), count in self._anomalies.items():
            self.host.report(Anomaly(layer=layer, reason=reason, count=count), None, "")
        self._anomalies.clear()
        self._anomalies_at = self.now
