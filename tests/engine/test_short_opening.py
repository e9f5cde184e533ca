"""The short way of a packet that begins a flow does what the long way would."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance_sdk.engine import DROP, FORWARD, Engine, EngineSettings
from appliance_sdk.flow.tcp import TcpTracker
from appliance_sdk.plugin.base import Plugin
from appliance_sdk.plugin.flow import Flow
from appliance_sdk.plugin.handler import FlowHandler, Opening, Outcome
from appliance_sdk.plugin.manager import Enabled, Pipeline, ZoneSettings
from appliance_sdk.plugin.packet import Packet
from appliance_sdk.plugin.verdict import Verdict
from appliance_sdk.wire.build import build_tcp, build_udp
from appliance_sdk.wire.geneve import ETHERTYPE_IPV6, Option, build_geneve, format_endpoint
from appliance_sdk.wire.packet import ACK, FIN, PSH, RST, SYN

A, B, GROUP, ALL = b"\x0a\0\0\x01", b"\x0a\0\0\x02", b"\xe0\0\0\x05", b"\xff\xff\xff\xff"
PEER, LOCAL = b"\x50\0\x0a\x09\x01\x15", b"\x0a\x09\x01\x16"
IN_ZONE, ELSEWHERE = 1, 2
PORTS = (53, 80, 81, 82, 83, 84, 85, 86, 87, 88, 89, 8443, 40000, 40001)


class Count(FlowHandler["Asked"]):
    count: int = 0

    def packet(self, packet: Packet) -> Outcome:
        self.count += 1
        self.plugin.seen.append((packet.copy(), packet.to_server, self.count))
        return Verdict.DROP if packet.payload.startswith(b"no") else None


class Asked(Plugin):
    """Does with a flow what its server's port says."""

    def start(self) -> None:
        self.seen: list[Any] = []

    def flow_opened(self, flow: Flow) -> Opening:
        packet = flow.packet
        assert packet is not None
        self.seen.append((str(flow), packet.copy(), packet.headers.flags, packet.to_server))
        match flow.server_port:
            case 81:
                return Count()
            case 82:
                return Verdict.DROP.because("not this one")
            case 83:
                return Verdict.BLOCK
            case 84:
                return Verdict.REJECT.because("go away").reply(b"bye")
            case 85:
                flow.set(Verdict.BLOCK.because("set"))
            case 86:
                raise ValueError("as a vendor's code may")
            case 87:
                return flow.hold(_nothing(), timeout_s=1.0, otherwise=Verdict.BLOCK)
            case 88:
                flow.record(3)
            case 89:
                handler = Count()
                handler.wake(1.0)
                return handler
            case 80:
                return Verdict.DONE.because("known")
        return Verdict.DONE if flow.server_port != 53 else None

    def flow_closed(self, flow: Flow, handler: FlowHandler[Any] | None) -> None:
        self.seen.append((str(flow), flow.end_reason, handler is not None))


async def _nothing() -> None:
    """Said after a while, where there is a data plane to wait for it."""


def _logging(events: list[Any]) -> Callable[..., None]:
    return lambda event, **fields: events.append((event, str(fields)))


class Engines:
    """One engine that takes the short way where there is one, and one that never does."""

    def __init__(self, **knobs: Any) -> None:
        enabled = [Enabled("asked", Asked), Enabled("again", Asked)]
        zones = {"inner": ZoneSettings((format_endpoint(IN_ZONE),))}
        origins = ("10.9.0.0/16",)
        self.now = 1000.0
        self.both: list[tuple[Engine, list[Any]]] = []
        for debug in (False, True):
            events: list[Any] = []
            engine = Engine(
                Pipeline.build(enabled, zones),
                EngineSettings(origins=origins, **knobs),
                now=self.now,
                emit=events.append,
                log=_logging(events),
                debug=debug,
            )
            engine.start()
            self.both.append((engine, events))

    def receive(self, datagram: bytes, peer: bytes = PEER) -> int:
        """Both say the same and are the same afterwards."""
        said = [
            engine.receive(datagram, 0, len(datagram), peer, LOCAL, self.now)
            for engine, _ in self.both
        ]
        assert said[0] == said[1]
        self.compare()
        return said[0]

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds
        for engine, _ in self.both:
            engine.advance(self.now)
        self.compare()

    def compare(self) -> None:
        """Both are the same."""
        short, long = (self._state(*one) for one in self.both)
        assert short == long

    def _state(self, engine: Engine, events: list[Any]) -> dict[str, Any]:
        return {
            "seen": [seat.plugin.seen for seat in engine.pipeline.seats],
            "events": events,
            "outbox": engine.outbox,
            "drops": engine.drops,
            "anomalies": engine.anomalies.counts,
            "errors": engine.guard.errors,
            "counts": (engine.received, engine.forwarded, engine.injected, engine.edited),
            "flows": (engine.flows_opened, engine.flows_closed, engine.flow_count),
            "recorded": engine.recording.bytes,
            "deadline": engine.next_deadline(),
            "order": [flow.id for flow in _half_open(engine)],
            "table": {flow.id: _flow(flow, engine) for flow in engine.flows},
        }


def _half_open(engine: Engine) -> list[Flow]:
    ring = engine.table._half_open
    found: list[Any] = []
    place = ring.after
    while place is not ring:
        found.append(place.flow)  # type: ignore[union-attr]
        place = place.after  # type: ignore[union-attr]
    return found


_OTHERS = ("lane", "tcp", "half_open", "before", "after", "verdict")
_PLUGINS = ("_envelope", "_zone", "_inspection")


def _flow(flow: Flow, engine: Engine) -> dict[str, Any]:
    names = [name for kind in type(flow).__mro__ for name in getattr(kind, "__slots__", ())]
    state = {
        name: getattr(flow, name) for name in names if name not in _OTHERS and name not in _PLUGINS
    }
    state["found"] = [engine.table.get(key) for key in (flow.key, _turned(flow.key))] == [
        (flow, True),
        (flow, False),
    ]
    state["place"] = flow.key, flow.zone, flow.after is not None
    state["encapsulation"] = flow.header, flow.local
    state["verdict"] = str(flow.verdict)
    state["handlers"] = [type(handler).__name__ for handler in flow._inspection.handlers.values()]
    state["hooks"] = [seat.name for seat, _ in flow._inspection.on_packet]
    state["tcp"] = _tcp(flow.tcp) if flow.tcp is not None else None
    return state


def _turned(key: Any) -> Any:
    endpoint, protocol, source, destination, source_port, destination_port = key
    return endpoint, protocol, destination, source, destination_port, source_port


def _tcp(tcp: TcpTracker) -> list[Any]:
    both = [tcp.start(way) for way in (True, False)]
    numbers = [(tcp.known(way), tcp.next_seq(way), tcp.acked(way)) for way in (True, False)]
    return [tcp.state, tcp.opening_seq, tcp.end_reason, both, numbers]


def header(kind: str, endpoint: int, cookie: int) -> bytes:
    """A GENEVE header, as usual or as it may be."""
    if kind == "more":
        return build_geneve(endpoint, cookie, extra=(Option(0x0109, 1, b"\0\0\0\0"),))
    if kind == "vni":
        return build_geneve(endpoint, cookie, vni=3)
    usual = build_geneve(endpoint, cookie, attachment_id=5)
    if kind == "turned":  # the endpoint last: all but half of it is the same for many
        return usual[:8] + usual[32:40] + usual[20:32] + usual[8:20]
    if kind == "wrong":
        return build_geneve(endpoint, cookie, attachment_id=5, ethertype=ETHERTYPE_IPV6)
    if kind == "missing":
        return usual[:32] + b"\x01\x09" + usual[34:]
    return usual


def packet(protocol: str, ends: Sequence[Any], flags: int, seq: int, payload: bytes) -> bytes:
    """An inner packet, as usual or as it may be."""
    if protocol == "udp":
        return build_udp(*ends, payload=payload)
    whole = build_tcp(*ends, seq=seq, flags=flags, payload=payload)
    if protocol == "short":
        total = 28
        whole = whole[:2] + struct.pack(">H", total) + whole[4:total]
    elif protocol == "offset":
        whole = whole[:32] + b"\xf0" + whole[33:]
    elif protocol == "small offset":
        whole = whole[:32] + b"\x40" + whole[33:]
    return whole


kinds = st.sampled_from(["usual"] * 8 + ["more", "vni", "turned", "wrong", "missing"])
endpoints = st.sampled_from([IN_ZONE, IN_ZONE, ELSEWHERE, 0x0108_0301_0000_0004])
ports = st.sampled_from(PORTS)
addresses = st.sampled_from([A] * 6 + [B] * 6 + [GROUP, ALL])
flags_of = st.sampled_from([SYN] * 8 + [SYN | PSH, SYN | ACK, ACK, FIN, SYN | FIN, RST, 0, 0xC2])
packets = st.builds(
    packet,
    st.sampled_from(["udp", "udp", "tcp", "tcp", "tcp", "short", "offset", "small offset"]),
    st.tuples(addresses, addresses, ports, ports),
    flags_of,
    st.sampled_from([0, 7, 0xFFFFFFFF]),
    st.sampled_from([b"", b"", b"no", b"payload"]),
)
datagrams = st.builds(
    lambda kind, endpoint, cookie, packet: header(kind, endpoint, cookie) + packet,
    kinds,
    endpoints,
    st.integers(1, 3),
    packets,
)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.tuples(datagrams, st.sampled_from([0.0] * 8 + [1.5, 31.0, 131.0])), max_size=25),
    st.sampled_from([3, 1000]),
    st.sampled_from(["continue", "drop"]),
    st.booleans(),
)
def test_both_ways_are_one(
    script: list[tuple[bytes, float]], room: int, policy: str, strict: bool
) -> None:
    engines = Engines(max_flows=room, table_full=policy, unknown_endpoint=policy, strict=strict)
    for endpoint in (IN_ZONE, ELSEWHERE):
        for one in (build_udp(A, B, 1, 2), build_tcp(A, B, 1, 2, flags=SYN)):
            engines.receive(header("usual", endpoint, 1) + one)
    for datagram, pause in script:
        engines.receive(datagram)
        if pause:
            engines.wait(pause)


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
@pytest.mark.parametrize("port", PORTS)
def test_whatever_a_plugin_answers_both_ways_do_it(port: int, protocol: str) -> None:
    engines = Engines()
    for endpoint in (IN_ZONE, ELSEWHERE):
        engines.receive(header("usual", endpoint, 1) + packet(protocol, (A, B, 1, 2), SYN, 7, b""))
        for client in (4000, 4001, 4000):
            one = packet(protocol, (A, B, client, port), SYN, client, b"")
            engines.receive(header("usual", endpoint, 2) + one)
    engines.wait(1.5)
    engines.wait(131.0)


def test_a_header_whose_last_bytes_are_the_endpoints_is_not_taken_for_another_endpoints() -> None:
    engines = Engines()
    for client, endpoint in enumerate((IN_ZONE, IN_ZONE, ELSEWHERE, IN_ZONE, ELSEWHERE), 4000):
        engines.receive(header("turned", endpoint, 1) + build_udp(A, B, client, 53))
    zones = [flow.zone for flow in engines.both[0][0].flows]
    assert zones == ["inner", "inner", "inner", "default", "default"]


def test_a_node_that_may_not_send_opens_nothing() -> None:
    engines = Engines()
    usual = header("usual", IN_ZONE, 1)
    assert engines.receive(usual + build_udp(A, B, 4000, 53)) == FORWARD
    assert engines.receive(usual + build_udp(A, B, 4001, 53)) == FORWARD
    stranger = b"\x50\0\x0a\x0a\x01\x15"
    assert engines.receive(usual + build_udp(A, B, 4002, 53), stranger) == DROP
    assert engines.both[0][0].drops == {"origin": 1}


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_the_packets_of_a_storm_take_the_short_way(
    protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = Engines()
    usual = header("usual", IN_ZONE, 1)
    engines.receive(usual + packet(protocol, (A, B, 4000, 53), SYN, 7, b""))
    engine = engines.both[0][0]
    long = lambda *_: pytest.fail("the long way was taken")  # noqa: E731
    monkeypatch.setattr(engine.judge, "datagram", long)
    data = header("usual", IN_ZONE, 9) + packet(protocol, (A, B, 4001, 53), SYN, 7, b"")
    assert engine.receive(data, 0, len(data), PEER, LOCAL, 1.0) == FORWARD
    assert engine.flow_count == 2


def test_an_endpoint_that_was_forgotten_meanwhile_is_met_again() -> None:
    engine = Engine(
        Pipeline.build([], {}),
        EngineSettings(origins=("10.9.0.0/16",)),
        now=1000.0,
        emit=lambda event: None,
        log=lambda event, **fields: None,
    )

    def judge(endpoint: int, port: int, now: float, *, back: bool = False) -> None:
        ends = (B, A, 53, port) if back else (A, B, port, 53)
        datagram = build_geneve(endpoint, 7) + build_udp(*ends, payload=b"x")
        assert engine.receive(datagram, 0, len(datagram), PEER, LOCAL, now) == FORWARD

    first_seen = range(1, 701)
    for endpoint in first_seen:
        judge(endpoint, 4000, 1000.0)
    for second in range(1200, 1500):
        engine.advance(float(second))
    assert engine.flow_count == 0
    assert sum(lane.gone for lane in engine.table.usual[17].values()) > 0
    for endpoint in first_seen:
        judge(endpoint, 4001, 1500.0)
        judge(endpoint, 4001, 1500.0, back=True)
    assert engine.flow_count == len({flow.endpoint for flow in engine.flows}) == 700
    assert all(flow.packets_to_client == 1 for flow in engine.flows)
