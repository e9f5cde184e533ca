"""A plugin on a bench: real packets and the real engine, no socket, virtual time."""

from __future__ import annotations

import ipaddress
import itertools
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from appliance_sdk.dataplane.memory import Datagram, MemoryPlane
from appliance_sdk.engine import Engine, EngineSettings
from appliance_sdk.errors import ConfigError
from appliance_sdk.flow.key import FlowKey
from appliance_sdk.plugin.enabling import enable
from appliance_sdk.plugin.events import Alert, Event
from appliance_sdk.plugin.flow import Flow
from appliance_sdk.plugin.loading import run_load, unpack
from appliance_sdk.plugin.manager import Pipeline, ZoneSettings
from appliance_sdk.testing.blocking import no_blocking
from appliance_sdk.testing.peers import Peers, TcpPeers, UdpPeers
from appliance_sdk.wire.capture import inner_packet, read_capture
from appliance_sdk.wire.geneve import (
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    build_geneve,
    format_endpoint,
    parse_endpoint,
    parse_geneve,
)
from appliance_sdk.wire.packet import parse_packet

if TYPE_CHECKING:
    from appliance_sdk.plugin.base import Plugin

ENDPOINT = "vpce-0a1b2c3d4e5f60718"
_NODE = ipaddress.ip_address("10.9.0.11").packed
_LOCAL = ipaddress.ip_address("10.9.1.21").packed
_START = 1000.0
_log = logging.getLogger("appliance_sdk.bench")


class Bench:
    """Runs plugins, in the given order, on packets that you make.

    Keyword arguments go to the plugins' configuration, by field name; `settings` are the engine's.
    `segment=1` cuts every stream into segments of one byte. Time stands still but for `advance`.
    Inside a hook, blocking calls raise RuntimeError and a packet kept from an earlier call raises
    PluginError.
    """

    def __init__(
        self,
        *plugins: type[Plugin],
        workers: int = 1,
        segment: int = 0,
        settings: EngineSettings | None = None,
        zones: dict[str, ZoneSettings] | None = None,
        **config: Any,
    ) -> None:
        if workers != 1:
            raise ConfigError(f"workers={workers}: a Bench has one worker in this version")
        self.now = _START
        """The virtual time, in seconds."""
        self.segment = segment
        self.events: list[Event] = []
        """Every event so far, in order."""
        self.injected: list[bytes] = []
        """Inner packets that the appliance made itself."""
        base = settings if settings is not None else EngineSettings()
        self._settings = msgspec.structs.replace(base, origins=("0.0.0.0/0",))
        self._zones = zones
        self._enabled = enable(plugins, config)
        self._ports = itertools.count(40000)
        self._cookies: dict[frozenset[Any], int] = {}
        self._next_cookie = itertools.count(0xC0000001)
        self._peers: list[Peers] = []
        self._engine_up()

    @property
    def alerts(self) -> list[Alert]:
        """The alerts among the events."""
        return [e for e in self.events if isinstance(e, Alert)]

    @property
    def flows(self) -> list[Flow]:
        """Every live flow."""
        return list(self.engine.flows)

    def plugin(self, kind: type[Any], zone: str = "default") -> Any:
        """The instance of a plugin class in one zone."""
        for seat in self.engine.pipeline.zones[zone].seats:
            if isinstance(seat.plugin, kind):
                return seat.plugin
        raise LookupError(f"no {kind.__name__} on this bench")

    def tcp(
        self,
        client: str,
        server: str,
        port: int,
        *,
        client_port: int = 0,
        midstream: bool = False,
        endpoint: str = ENDPOINT,
    ) -> TcpPeers:
        """Two ends of a TCP connection, the handshake done (or, if midstream, never seen)."""
        source_port = client_port or next(self._ports)
        peers = TcpPeers(self, client, server, source_port, port, endpoint)
        self._peers.append(peers)
        if midstream:
            peers.pretend_established()
        else:
            peers.handshake()
        return peers

    def udp(
        self,
        client: str,
        server: str,
        port: int,
        *,
        client_port: int = 0,
        endpoint: str = ENDPOINT,
    ) -> UdpPeers:
        """Two ends that exchange datagrams; nothing is sent yet."""
        source_port = client_port or next(self._ports)
        peers = UdpPeers(self, client, server, source_port, port, endpoint)
        self._peers.append(peers)
        return peers

    def send(self, packet: bytes, endpoint: str = ENDPOINT) -> list[bytes]:
        """One inner packet through the appliance: the inner packets that come out, in order.

        The first is the packet itself if it was forwarded; what the appliance made comes with it.
        """
        version = packet[0] >> 4 if packet else 4
        ethertype = ETHERTYPE_IPV6 if version == 6 else ETHERTYPE_IPV4
        header = build_geneve(parse_endpoint(endpoint), self._cookie(packet), ethertype=ethertype)
        peer = (61000).to_bytes(2, "big") + _NODE
        with no_blocking():
            sent = self._plane.deliver(header + packet, peer, _LOCAL, self.now)
        return self._inner(sent)

    def replay(self, capture: str | Path) -> int:
        """Send every packet of a capture at its own time; returns how many came back."""
        forwarded = self.engine.forwarded
        first: float | None = None
        started = self.now
        for frame in read_capture(capture):
            first = frame.timestamp if first is None else first
            self.advance(max(0.0, started + frame.timestamp - first - self.now))
            start, end = inner_packet(frame)
            self.send(frame.data[start:end])
        return self.engine.forwarded - forwarded

    def advance(self, seconds: float) -> None:
        """Let time pass; everything that becomes due happens at its time."""
        target = self.now + seconds
        for _ in range(1_000_000):
            due = self._plane.next_deadline()
            if due > target:
                break
            self.now = max(self.now, due)
            with no_blocking():
                self._arrive_late(self._plane.advance(self.now))
        self.now = target
        with no_blocking():
            self._arrive_late(self._plane.advance(self.now))

    def _arrive_late(self, sent: Iterable[Datagram]) -> None:
        """What comes out without a packet going in reaches the peers whose it is."""
        for datagram in sent:
            payload = datagram.payload
            geneve = parse_geneve(payload, 0, len(payload))
            packet = payload[geneve.length :]
            headers = parse_packet(packet, 0, len(packet))
            endpoint = format_endpoint(geneve.endpoint_id)
            for peers in self._peers:
                if peers.is_of(headers, endpoint):
                    peers.late(packet)

    def reload(self) -> None:
        """Call every plugin's `load` again and hand over the result, as on SIGHUP."""
        for entry in self._enabled:
            packed = run_load(entry, entry.decoded())
            if packed is not None:
                with no_blocking():
                    self.engine.load(entry.name, unpack(packed))

    def restart(self) -> None:
        """Stop in order and start again: handlers are restored from their saved state."""
        saved = list(self.engine.snapshot())
        self.close()
        self._engine_up()
        self.engine.restore(saved, self.now)

    def close(self) -> None:
        """End every flow and stop the plugins."""
        with no_blocking():
            self.engine.close(self.now)
            self._plane.close()

    def flow_of(self, key: FlowKey) -> Flow | None:
        """The live flow of a packet's key."""
        entry = self.engine.table.get(key)
        return entry[0] if entry else None

    def _engine_up(self) -> None:
        pipeline = Pipeline.build(self._enabled, self._zones)
        self.engine = Engine(
            pipeline,
            self._settings,
            now=self.now,
            emit=self.events.append,
            log=_to_logging,
            debug=True,
        )
        self._plane = MemoryPlane(self.engine)
        self.reload()
        with no_blocking():
            self.engine.start()

    def _inner(self, sent: Iterable[Datagram]) -> list[bytes]:
        packets = []
        for datagram in sent:
            payload = datagram.payload
            length = parse_geneve(payload, 0, len(payload)).length
            packets.append(payload[length:])
        return packets

    def _cookie(self, packet: bytes) -> int:
        """The same cookie for both directions of the same addresses, as GWLB does."""
        if len(packet) < 20:
            return 1
        ends = packet[8:40] if packet[0] >> 4 == 6 else packet[12:20]
        half = len(ends) // 2
        pair = frozenset((ends[:half], ends[half:]))
        if pair not in self._cookies:
            self._cookies[pair] = next(self._next_cookie)
        return self._cookies[pair]


def _to_logging(event: str, **fields: Any) -> None:
    error = fields.get("error")
    trace = error if isinstance(error, BaseException) else None
    _log.warning("%s %s", event, fields, exc_info=trace)
