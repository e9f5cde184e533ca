"""The sans-IO heart: a datagram and the time in, a decision out."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from appliance_sdk.engine.answers import Answers
from appliance_sdk.engine.direction import is_icmp_error
from appliance_sdk.engine.guard import Guard
from appliance_sdk.engine.host import Host
from appliance_sdk.engine.lifecycle import BLOCKED, HANDLED, Lifecycle
from appliance_sdk.engine.settings import EngineSettings
from appliance_sdk.engine.state import restore_flow, save_flow
from appliance_sdk.engine.streams import Streams
from appliance_sdk.errors import MalformedPacket, PluginError
from appliance_sdk.flow.fragments import FragmentTable
from appliance_sdk.flow.key import FlowKey
from appliance_sdk.flow.table import FlowTable
from appliance_sdk.plugin.cidr import CidrSet
from appliance_sdk.plugin.events import Anomaly, Dropped, Event
from appliance_sdk.plugin.flow import Flow
from appliance_sdk.plugin.manager import Pipeline, Seat
from appliance_sdk.plugin.packet import Packet
from appliance_sdk.plugin.verdict import Action, Verdict
from appliance_sdk.wire.geneve import parse_geneve
from appliance_sdk.wire.packet import ACK, SYN, Headers, parse_packet, parse_quoted

if TYPE_CHECKING:
    from appliance_sdk.wire.buffer import Buffer

FORWARD, DROP, REPLACED = 0, 1, 2
"""What to do with a datagram: send it back as received, nothing, or send what is in the outbox."""

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
    ) -> None:
        self.now = now
        self.settings = settings
        self.pipeline = pipeline
        self.outbox: list[tuple[bytes, bytes, bytes]] = []
        self.received = 0
        self.drops: Counter[str] = Counter()
        self.injected = 0
        """Packets of our own: resets, ICMP errors, replies."""
        self.edited = 0
        """Forwarded packets that a plugin edited."""
        self.metrics: Counter[str] = Counter()
        """Counters of plugins: "plugin.metric"."""
        self._debug = debug
        self._origins = CidrSet(settings.origins)
        self._origins_seen: set[bytes] = set()
        self._mtu = settings.mtu_bytes
        self._packet = Packet()
        self._anomalies: Counter[tuple[str, str]] = Counter()
        self._anomalies_at = now
        self.guard = Guard(settings, log)
        self.table: FlowTable[Flow] = FlowTable(settings.max_flows)
        self._get = self.table.get
        self.answers = Answers(settings.rejects_per_s, self.send)
        self.fragments = FragmentTable()
        self.streams = Streams(settings, self.guard, self._detach)
        self.host = Host(self, emit, log)
        self.lifecycle = Lifecycle(self, first_flow_id)
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
        return self.received - sum(self.drops.values())

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
        if self._anomalies and now - self._anomalies_at >= _ANOMALY_PERIOD_S:
            self._report_anomalies()

    def close(self, now: float, reason: str = "shutdown") -> None:
        """End every flow and stop every plugin."""
        self.now = now
        self.lifecycle.close_all(reason)
        self._report_anomalies()

    def snapshot(self) -> Iterator[bytes]:
        """The state of every flow, one record each, for `restore` after a restart."""
        return (save_flow(flow, self.now) for flow in list(self.table))

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
            return self._drop("origin")
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
                entry = self._get((eid, proto, src, dst, sp, dp))
                usual = entry is not None
                if usual and proto == _TCP:
                    usual = total >= 40
                    if usual:
                        seq, ack, offset, flags, window = _TCP_FIELDS.unpack_from(
                            buffer, start + 64
                        )
                        length = total - 20 - (offset >> 4 << 2)
                        usual = offset >= 0x50 and length >= 0 and flags & (SYN | ACK) != SYN
                if usual and entry is not None:
                    flow, to_server = entry
                    stats = flow.to_server if to_server else flow.to_client
                    stats.packets += 1
                    stats.bytes += total
                    flow.last_seen = now
                    if cookie != flow.cookie or peer != flow.encapsulation[0]:
                        self._encapsulate(flow, buffer, start, 40, cookie, peer, local)
                    tcp = flow.tcp
                    if tcp is None and flow.half_open and not to_server:
                        self.lifecycle.answered(flow)
                    if flow.mode:
                        place = peer, local, buffer, start, start + 40
                        inner = start + 40
                        return self._judge(
                            flow, to_server, buffer, inner, inner + total, None, place
                        )
                    if tcp is not None:
                        before = tcp.state
                        tcp.advance(to_server, flags, seq, ack, length, window)
                        if tcp.state != before:
                            self.lifecycle.tcp_changed(flow)
                    return FORWARD
        try:
            return self._receive_any(buffer, start, end, peer, local)
        except MalformedPacket as error:
            self._anomalies["packet", error.reason] += 1
            return self._drop(error.reason)

    def _receive_any(self, buffer: Buffer, start: int, end: int, peer: bytes, local: bytes) -> int:
        """Any header, any packet: what the fast path did not take. Raises MalformedPacket."""
        geneve = parse_geneve(buffer, start, end, strict=self.settings.strict)
        inner = start + geneve.length
        headers = parse_packet(buffer, inner, end)
        if headers.end - inner > self._mtu:
            return self._drop("too_long")
        place = peer, local, buffer, start, inner
        if headers.is_fragment:
            return self._fragment(headers, geneve.endpoint_id, geneve.cookie, place, end)
        key = _key(geneve.endpoint_id, headers)
        found = self._find(key, headers, geneve.cookie, place, inner, end)
        if isinstance(found, int):
            return found
        flow, to_server = found
        return self._count_and_judge(flow, to_server, geneve.cookie, headers, place, inner, end)

    def _find(
        self, key: FlowKey, headers: Headers, cookie: int, place: _Place, start: int, end: int
    ) -> tuple[Flow, bool] | int:
        """The flow of a packet, opened if it has none; else the decision about the packet."""
        entry = self._get(key)
        if entry is not None and not self.lifecycle.is_replaced(entry[0], headers, cookie):
            return entry
        _peer, _local, buffer, datagram, inner = place
        if entry is not None:
            self.lifecycle.close(entry[0], "replaced")
        zone = self.pipeline.endpoints.get(key[0])
        if zone is None:
            self.lifecycle.unknown_endpoint(key[0])
            if self.settings.unknown_endpoint != "continue":
                return self._drop("unknown_endpoint")
            zone = self.pipeline.default
        if key[2] == key[3] and key[4] == key[5]:
            return self._drop("land")
        if _is_multicast(key[3]):
            return self._drop("multicast")
        if self.table.full and not self.lifecycle.make_room():
            return FORWARD if self.settings.table_full == "continue" else self._drop("table_full")
        flow, to_server = self.lifecycle.new_flow(key, headers, zone)
        self._encapsulate(flow, buffer, datagram, inner - datagram, cookie, place[0], place[1])
        packet = self._view(flow, buffer, start, end, headers, to_server)
        verdict, seat = self.lifecycle.ask(flow, packet)
        self._release(flow, packet)
        if verdict is not None and verdict.action is Action.DROP:
            name = seat.name if seat else ""
            return self._dropped(flow, verdict, name, buffer, start, headers, to_server)
        self.lifecycle.admit(flow)
        if verdict is not None:
            self.lifecycle.decide(flow, verdict, seat)
        return flow, to_server

    def _count_and_judge(
        self,
        flow: Flow,
        to_server: bool,
        cookie: int,
        headers: Headers,
        place: _Place,
        start: int,
        end: int,
    ) -> int:
        peer, local, buffer, datagram, inner = place
        self._count(flow, to_server, headers.end - start)
        if cookie != flow.cookie or peer != flow.encapsulation[0]:
            self._encapsulate(flow, buffer, datagram, inner - datagram, cookie, peer, local)
        return self._judge(flow, to_server, buffer, start, end, headers, place)

    def _judge(
        self,
        flow: Flow,
        to_server: bool,
        buffer: Buffer,
        start: int,
        end: int,
        headers: Headers | None,
        place: _Place,
    ) -> int:
        """Ask the handlers of a flow about a packet of it, and do what they say."""
        if headers is None:
            headers = parse_packet(buffer, start, end)
        if flow.mode == BLOCKED:
            return self._refuse(flow, buffer, start, headers, to_server)
        edited: bytearray | None = None
        if flow.mode == HANDLED:
            packet = self._view(flow, buffer, start, end, headers, to_server)
            verdict, seat, drop = self._ask_handlers(flow, packet)
            edited = packet.edited()
            self._release(flow, packet)
            if drop:
                self._anomalies["stream", drop] += 1
                return self._drop(drop)
            if verdict is not None:
                if verdict.action is not Action.DROP:
                    self.lifecycle.decide(flow, verdict, seat)
                name = seat.name if seat else ""
                return self._dropped(flow, verdict, name, buffer, start, headers, to_server)
            if flow.mode == BLOCKED:  # a handler called flow.set()
                return self._refuse(flow, buffer, start, headers, to_server)
        tcp = flow.tcp
        if tcp is not None:
            before = tcp.state
            length = headers.end - headers.payload
            tcp.advance(to_server, headers.flags, headers.seq, headers.ack, length, headers.window)
            if tcp.state != before:
                self.lifecycle.tcp_changed(flow)
        if edited is None:
            return FORWARD
        peer, local, whole, datagram, inner = place
        self.edited += 1
        self.outbox.append((peer, local, bytes(whole[datagram:inner]) + edited))
        return REPLACED

    def _ask_handlers(self, flow: Flow, packet: Packet) -> tuple[Verdict | None, Seat | None, str]:
        """The first terminal verdict, or the reason for which the stream refuses the packet."""
        for seat, hook in flow._on_packet:
            self.guard.calling = seat
            try:
                outcome = hook(packet)
                if outcome is not None and not isinstance(outcome, Verdict):
                    outcome = self.guard.nonsense(seat, "packet", outcome, self.now)
            except Exception as error:  # a vendor's code may raise anything; the guard counts it
                outcome = self.guard.failed(seat, "packet", error, self.now)
            if outcome is None:
                continue
            if outcome.action >= Action.DROP:
                return outcome, seat, ""
            if outcome.action is Action.DONE:
                self._detach(flow, seat)
        if flow._on_data and flow.mode != BLOCKED:
            judged = self.streams.judge(flow, packet, self.now)
            return judged.verdict, judged.seat, judged.drop
        return None, None, ""

    def _fragment(
        self, headers: Headers, endpoint_id: int, cookie: int, place: _Place, end: int
    ) -> int:
        """A fragment shares the fate of its first one; the last to come is judged as the whole."""
        _peer, _local, buffer, _datagram, inner = place
        fragment = self.fragments.add(endpoint_id, headers, buffer, inner, self.now)
        if fragment.reason:
            self._anomalies["fragment", fragment.reason] += 1
            return self._drop(fragment.reason)
        entry = fragment.entry
        if headers.fragment_offset == 0:
            key = _key(endpoint_id, headers)
            found = self._find(key, headers, cookie, place, inner, end)
            if isinstance(found, int):
                entry.drop = found == DROP
                return found
            entry.owner = found
        if entry.drop or entry.owner is None:
            return self._drop("fragment_verdict")
        flow, to_server = entry.owner
        self._count(flow, to_server, headers.end - inner)
        if flow.mode == BLOCKED:
            entry.drop = True
            return self._refuse(flow, buffer, inner, headers, to_server)
        if fragment.whole is None:
            return FORWARD
        whole = fragment.whole
        judged = self._judge(flow, to_server, whole, 0, len(whole), None, (*place[:2], whole, 0, 0))
        if judged == REPLACED:
            self.outbox.pop()
            self.edited -= 1
            return self._drop("fragment_edited")
        return judged

    def send(self, flow: Flow, packet: bytes) -> None:
        """Put a packet of our own into the outbox, in the newest encapsulation of its flow."""
        peer, local, header = flow.encapsulation
        self.injected += 1
        self.outbox.append((peer, local, header + packet))

    def _count(self, flow: Flow, to_server: bool, length: int) -> None:
        stats = flow.to_server if to_server else flow.to_client
        stats.packets += 1
        stats.bytes += length
        flow.last_seen = self.now
        if flow.half_open and flow.tcp is None and not to_server:
            self.lifecycle.answered(flow)

    def _encapsulate(
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

    def _view(
        self, flow: Flow, buffer: Buffer, start: int, end: int, headers: Headers, to_server: bool
    ) -> Packet:
        packet = Packet() if self._debug else self._packet
        packet.refill(buffer, start, end, headers, to_server)
        if is_icmp_error(headers):
            packet.related = self._related(flow.key[0], buffer, headers)
        flow.packet = packet
        return packet

    def _release(self, flow: Flow, packet: Packet) -> None:
        flow.packet = None
        packet.retire()

    def _related(self, endpoint_id: int, buffer: Buffer, headers: Headers) -> Flow | None:
        """The flow that an ICMP error quotes, after its eight bytes (RFC 792, RFC 4443)."""
        try:
            quoted = parse_quoted(buffer, headers.transport + 8, headers.end)
        except MalformedPacket:
            return None
        entry = self._get(_key(endpoint_id, quoted))
        return entry[0] if entry is not None else None

    def _refuse(
        self, flow: Flow, buffer: Buffer, start: int, headers: Headers, to_server: bool
    ) -> int:
        """A packet of a decided flow: all of the verdict for the first one, then its action."""
        if not flow.reported:
            by = flow.decided_by
            return self._dropped(flow, flow.verdict, by, buffer, start, headers, to_server)
        if flow.verdict.action is Action.REJECT:
            self.answers.reject(flow, buffer, start, headers, to_server, self.now)
        return self._drop(f"plugin_{flow.verdict.name}")

    def _dropped(
        self,
        flow: Flow,
        verdict: Verdict,
        plugin: str,
        buffer: Buffer,
        start: int,
        headers: Headers,
        to_server: bool,
    ) -> int:
        """A verdict drops this packet: answer it if the verdict says so, and report it once."""
        length = headers.end - headers.payload
        if verdict.payload is not None:
            self.answers.reply(flow, headers, verdict.payload, to_server, length, self.now)
        elif verdict.action is Action.REJECT:
            self.answers.reject(flow, buffer, start, headers, to_server, self.now)
        if not flow.reported:
            flow.reported = True
            self.host.report(
                Dropped(
                    action=verdict.name,
                    reason=verdict.reason,
                    rule=verdict.rule,
                    to_server=to_server,
                    length=headers.end - start,
                ),
                flow,
                plugin,
            )
        return self._drop(f"plugin_{verdict.name}")

    def _drop(self, reason: str) -> int:
        self.drops[reason] += 1
        return DROP

    def _known_origin(self, peer: bytes) -> bool:
        address = peer[2:]
        if address not in self._origins:
            return False
        if len(self._origins_seen) < _ORIGINS_REMEMBERED:
            self._origins_seen.add(bytes(address))
        return True

    def _detach(self, flow: Flow, seat: Seat) -> None:
        self.lifecycle.detach(flow, seat)

    def _report_anomalies(self) -> None:
        for (layer, reason), count in self._anomalies.items():
            self.host.report(Anomaly(layer=layer, reason=reason, count=count), None, "")
        self._anomalies.clear()
        self._anomalies_at = self.now


_Place: TypeAlias = tuple[bytes, bytes, "Buffer", int, int]
"""Where a packet stands: peer, local, buffer, start of the datagram, start of the inner packet."""


def _key(endpoint_id: int, headers: Headers) -> FlowKey:
    return (
        endpoint_id,
        headers.protocol,
        headers.source,
        headers.destination,
        headers.source_port,
        headers.destination_port,
    )


def _is_multicast(address: bytes) -> bool:
    if len(address) == 4:
        return address[0] >> 4 == 0xE or address == b"\xff\xff\xff\xff"
    return address[0] == 0xFF
