"""IPv4 and IPv6 take the same short way through the engine, and the long way says the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance_sdk.engine import DROP, FORWARD, Engine, EngineSettings
from appliance_sdk.plugin.base import Plugin
from appliance_sdk.plugin.chunk import Chunk
from appliance_sdk.plugin.flow import Flow
from appliance_sdk.plugin.handler import FlowHandler, Opening, Outcome
from appliance_sdk.plugin.manager import Enabled, Pipeline
from appliance_sdk.plugin.packet import Packet
from appliance_sdk.plugin.verdict import Verdict
from appliance_sdk.wire.build import build_tcp, build_udp
from appliance_sdk.wire.geneve import ETHERTYPE_IPV4, ETHERTYPE_IPV6, build_geneve
from appliance_sdk.wire.packet import ACK, FIN, PSH, RST, SYN

ENDS = {
    4: (b"\x0a\0\0\x01", b"\x0a\0\0\x02"),
    6: (b"\x20\x01\x0d\xb8" + bytes(11) + b"\1", b"\x20\x01\x0d\xb8" + bytes(11) + b"\2"),
}
PEER, LOCAL = b"\x50\0\x0a\x09\x01\x15", b"\x0a\x09\x01\x16"


def enveloped(packet: bytes, cookie: int = 77, version: int = 0) -> bytes:
    ethertype = ETHERTYPE_IPV6 if (version or packet[0] >> 4) == 6 else ETHERTYPE_IPV4
    return build_geneve(1, cookie, ethertype=ethertype) + packet


class Reads(Plugin):
    """Port 80 is read packet by packet, port 81 as a stream, all else is let pass."""

    def start(self) -> None:
        self.seen: list[Any] = []

    def flow_opened(self, flow: Flow) -> Opening:
        kind = {80: Count, 81: Read}.get(flow.server_port)
        return kind() if kind is not None else Verdict.DONE


class Count(FlowHandler[Reads]):
    def packet(self, packet: Packet) -> Outcome:
        self.plugin.seen.append((packet.to_server, packet.length, packet.payload, packet.ttl))
        return Verdict.BLOCK.because("evil") if b"evil" in packet.payload else None


class Read(FlowHandler[Reads]):
    def data(self, chunk: Chunk) -> Outcome:
        self.plugin.seen.append((chunk.to_server, chunk.offset, bytes(chunk.data)))
        return Verdict.BLOCK.because("evil") if b"evil" in chunk else None


class Both:
    """An engine that takes the short way where there is one, and one that has none."""

    def __init__(self) -> None:
        self.engines: list[tuple[Engine, Reads, list[Any]]] = []
        for short in (True, False):
            pipeline = Pipeline.build([Enabled("reads", Reads)], {})
            plugin = pipeline.seats[0].plugin
            assert isinstance(plugin, Reads)
            events: list[Any] = []
            engine = Engine(
                pipeline,
                EngineSettings(origins=("10.9.0.0/16",)),
                now=0.0,
                emit=events.append,
                log=lambda event, **fields: None,
            )
            if not short:
                engine._usual_lanes = [{}] * 256
            engine.start()
            self.engines.append((engine, plugin, events))

    def receive(self, data: bytes) -> int:
        short, long = (
            engine.receive(data, 0, len(data), PEER, LOCAL, 1.0) for engine, _, _ in self.engines
        )
        assert short == long
        states = [self._state(*one) for one in self.engines]
        assert states[0] == states[1]
        return short

    def _state(self, engine: Engine, plugin: Reads, events: list[Any]) -> list[Any]:
        flows = [
            (
                str(flow),
                flow.to_server,
                flow.to_client,
                flow.last_seen,
                flow.mode,
                flow.header,
                str(flow.verdict),
                flow.half_open is not None,
                flow.timeout_s,
                _numbers(flow),
            )
            for flow in engine.flows
        ]
        counts = engine.received, engine.forwarded, engine.injected, engine.outbox
        return [flows, counts, engine.drops, engine.anomalies.counts, events, plugin.seen]


def _numbers(flow: Flow) -> list[Any]:
    tcp = flow.tcp
    if tcp is None:
        return []
    both = [(tcp.next_seq(way), tcp.acked(way)) for way in (True, False)]
    return [tcp.state, tcp.end_reason, both]


def tcp(version: int, port: int, to_server: bool, **fields: Any) -> bytes:
    client, server = ENDS[version]
    if to_server:
        return build_tcp(client, server, 4000, port, **fields)
    return build_tcp(server, client, port, 4000, **fields)


def udp(version: int, port: int, to_server: bool, payload: bytes) -> bytes:
    client, server = ENDS[version]
    if to_server:
        return build_udp(client, server, 4000, port, payload=payload)
    return build_udp(server, client, port, 4000, payload=payload)


def handshake(both: Both, version: int, port: int) -> None:
    for packet in (
        tcp(version, port, True, seq=10, flags=SYN),
        tcp(version, port, False, seq=90, ack=11, flags=SYN | ACK),
        tcp(version, port, True, seq=11, ack=91, flags=ACK),
    ):
        assert both.receive(enveloped(packet)) == FORWARD


steps = st.tuples(
    st.booleans(),
    st.integers(0, 12),
    st.sampled_from([b"", b"a", b"GET /", b"evil"]),
    st.sampled_from([ACK, ACK, ACK | PSH, ACK | FIN, RST, SYN, 0]),
    st.sampled_from(["", "", "", "", "cut", "trailing", "length", "hop", "short"]),
)


@pytest.mark.parametrize("version", [4, 6])
@settings(max_examples=150, deadline=None)
@given(st.sampled_from([80, 81, 443]), st.lists(steps, max_size=20))
def test_both_ways_are_one(
    version: int, port: int, script: list[tuple[bool, int, bytes, int, str]]
) -> None:
    both = Both()
    handshake(both, version, port)
    for to_server, at, payload, flags, wrong in script:
        seq, ack = (11 + at, 91) if to_server else (91 + at, 11 + at)
        for packet in (
            tcp(version, port, to_server, seq=seq, ack=ack, flags=flags, payload=payload),
            udp(version, port, to_server, payload),
        ):
            both.receive(enveloped(broken(version, packet, wrong)))


def broken(version: int, packet: bytes, how: str) -> bytes:
    """A packet with a fault in it, or with a header of its own kind."""
    if how == "cut":
        return packet[:-1]
    if how == "trailing":
        return packet + b"\0\0"
    if how == "length":
        at = 2 if version == 4 else 4
        length = int.from_bytes(packet[at : at + 2], "big") - 1
        return packet[:at] + length.to_bytes(2, "big") + packet[at + 2 :]
    if how == "hop":  # Hop-by-Hop Options, RFC 8200 §4.3; protocol 0 in IPv4
        at = 9 if version == 4 else 6
        return packet[:at] + b"\0" + packet[at + 1 :]
    if how == "short":  # no room for the transport header that is announced
        at, header, counted = (2, 20, 32) if version == 4 else (4, 40, 12)
        return packet[:at] + counted.to_bytes(2, "big") + packet[at + 2 : header + 12]
    return packet


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("port", [80, 443])
def test_known_flows_need_no_headers_to_be_parsed(
    version: int, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = Both()
    handshake(both, version, port)
    for to_server in (True, False):
        assert both.receive(enveloped(udp(version, port, to_server, b"x"))) == FORWARD
    engine = both.engines[0][0]
    monkeypatch.setattr(engine.judge, "datagram", lambda *_: pytest.fail("the long way was taken"))
    for packet in (
        tcp(version, port, True, seq=11, ack=91, flags=ACK, payload=b"GET"),
        tcp(version, port, False, seq=91, ack=14, flags=ACK),
        udp(version, port, True, b"y"),
        udp(version, port, False, b"z"),
    ):
        data = enveloped(packet)
        assert engine.receive(data, 0, len(data), PEER, LOCAL, 2.0) == FORWARD
    assert [sum(flow.to_server) + sum(flow.to_client) > 0 for flow in engine.flows] == [True, True]


@pytest.mark.parametrize("version", [4, 6])
def test_another_header_is_taken_over_whichever_way_it_came(version: int) -> None:
    both = Both()
    packet = udp(version, 443, True, b"x")
    for cookie in (77, 78, 77, 79):
        data = enveloped(packet, cookie)
        assert both.receive(data) == FORWARD
        assert {flow.header for engine, _, _ in both.engines for flow in engine.flows} == {
            data[:40]
        }


def test_a_version_that_is_none_is_dropped_by_both_ways() -> None:
    both = Both()
    packet = udp(6, 443, True, b"x")
    assert both.receive(enveloped(packet)) == FORWARD
    for first in (0x00, 0x45, 0x46, 0x50, 0x70, 0xF0):
        assert both.receive(enveloped(bytes([first]) + packet[1:], version=6)) == DROP
    assert both.receive(enveloped(b"\x6f" + packet[1:])) == FORWARD  # another traffic class
    assert both.receive(enveloped(packet, version=4)) == DROP
