"""The short way of a segment that is next says, shows and keeps what the long way would."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance_sdk.engine import Engine, EngineSettings
from appliance_sdk.flow.reassembly import StreamLimits
from appliance_sdk.plugin.base import Plugin
from appliance_sdk.plugin.chunk import Chunk
from appliance_sdk.plugin.flow import Flow
from appliance_sdk.plugin.handler import FlowHandler, Opening, Outcome
from appliance_sdk.plugin.manager import Enabled, Pipeline
from appliance_sdk.plugin.packet import Packet
from appliance_sdk.plugin.verdict import Verdict
from appliance_sdk.wire.build import build_tcp, build_udp
from appliance_sdk.wire.geneve import build_geneve
from appliance_sdk.wire.packet import ACK, FIN, PSH, RST, SYN, URG

A, B = b"\x0a\0\0\x01", b"\x0a\0\0\x02"
PEER, LOCAL = b"\x50\0\x0a\x09\x01\x15", b"\x0a\x09\x01\x16"
STARTS = (0xFFFFFFF0, 500)
"""The numbers of the client's SYN and of the server's."""
STREAM = b"GET /evil mask patch both wait done DATA 0123456789 " * 3


class Reads(Plugin):
    """Does with a stream what its bytes say."""

    def flow_opened(self, flow: Flow) -> Opening:
        return Read() if flow.server_port != 81 else Edit()

    def start(self) -> None:
        self.seen: list[Any] = []


class Read(FlowHandler[Reads]):
    lookback = 6

    def data(self, chunk: Chunk) -> Outcome:
        new = chunk.data[chunk.fresh :]
        shown = (chunk.data, chunk.to_server, chunk.offset, chunk.fresh, chunk.gap)
        self.plugin.seen.append(shown)
        packet = self.flow.packet
        assert packet is not None
        if new.startswith(b"p") and packet.length > 60:
            packet.patch(0, b"P")
        if new.startswith(b"7"):
            raise ValueError("as a vendor's code may")
        if new.startswith(b"w"):
            return self.flow.hold(_nothing(), timeout_s=1.0, otherwise=Verdict.DROP)
        if new.startswith(b"d"):
            return Verdict.DONE
        if new.startswith(b"DATA"):
            return Verdict.DROP
        return Verdict.BLOCK.because("evil") if b"evil" in chunk else None


async def _nothing() -> None:
    """Said after a while, where there is a data plane to wait for it."""


class Edit(Read):
    edits = True

    def packet(self, packet: Packet) -> Outcome:
        self.plugin.seen.append(packet.tcp)
        if packet.payload.startswith(b"both"):
            packet.patch(0, b"BOTH")
        if packet.payload.startswith(b"9"):
            return Verdict.DROP
        return Verdict.CONTINUE if packet.payload.startswith(b"8") else None

    def data(self, chunk: Chunk) -> Outcome:
        at = chunk.data.find(b"mask")
        if at >= 0:
            chunk.mask(at, at + 4)
        return super().data(chunk)


class Engines:
    """One engine that takes the short way where there is one, and one that never does."""

    def __init__(self, limits: StreamLimits, total: int) -> None:
        enabled = [Enabled("reads", Reads)]
        knobs = EngineSettings(origins=("10.9.0.0/16",), stream=limits, stream_total_bytes=total)
        self.both: list[tuple[Engine, Reads, list[Any]]] = []
        for debug in (False, True):
            pipeline = Pipeline.build(enabled, {})
            plugin = pipeline.seats[0].plugin
            assert isinstance(plugin, Reads)
            events: list[Any] = []
            engine = Engine(
                pipeline,
                knobs,
                now=0.0,
                emit=events.append,
                log=lambda event, **fields: None,
                debug=debug,
            )
            engine.start()
            self.both.append((engine, plugin, events))

    def receive(self, packet: bytes) -> None:
        """Both say the same and are the same afterwards."""
        data = build_geneve(1, 77) + packet
        said = [engine.receive(data, 0, len(data), PEER, LOCAL, 1.0) for engine, _, _ in self.both]
        assert said[0] == said[1]
        short, long = (self._state(*one) for one in self.both)
        assert short == long

    def _state(self, engine: Engine, plugin: Reads, events: list[Any]) -> dict[str, Any]:
        return {
            "seen": plugin.seen,
            "events": events,
            "outbox": engine.outbox,
            "drops": engine.drops,
            "errors": engine.guard.errors,
            "edited": engine.edited,
            "used": engine.streams._budget.used,
            "answering": list(engine.streams._credible._answering),
            "flows": [self._flow(flow) for flow in engine.flows],
        }

    def _flow(self, flow: Flow) -> tuple[Any, ...]:
        tcp = flow.tcp
        numbers = values(tcp), values(tcp._edges if tcp is not None else None)
        streams = [
            (values(one), values(one.copies if one is not None else None))
            for one in flow._inspection.streams or ()
        ]
        sound = flow._inspection.sound
        return flow.mode, sound, flow.packet, str(flow.verdict), numbers, streams


def values(one: Any) -> dict[str, Any]:
    """What stands in its slots, other objects of ours left out."""
    names = one.__slots__ if one is not None else ()
    others = "_budget", "_edges", "copies"
    return {name: getattr(one, name) for name in names if name not in others}


usual = st.just(ACK) | st.just(ACK | PSH)
segments = st.tuples(
    st.booleans(),
    st.just(0) | st.integers(-60, 60),
    st.just(0) | st.integers(0, 40),
    st.just(0) | st.just(0) | st.integers(-60, 60),
    usual | usual | st.sampled_from([0, ACK | FIN, ACK | URG, SYN, SYN | ACK, ACK | RST, URG, PSH]),
    st.sampled_from(["", "", "", "", "lie", "damage"]),
)
"""To the server, from where (0: the next byte), how many bytes, what is acknowledged, flags, what
is wrong with it."""


@pytest.mark.parametrize("port", [80, 81])
@pytest.mark.parametrize(
    "word", [b"x", b"mask", b"patch", b"both", b"wait", b"done", b"7", b"evil"]
)
def test_whatever_a_handler_answers_both_ways_do_it(word: bytes, port: int) -> None:
    engines = Engines(StreamLimits(), 1 << 20)
    client, server = (start + 1 for start in STARTS)
    engines.receive(segment(port, True, client - 1, 0, SYN, b""))
    engines.receive(segment(port, False, server - 1, client, SYN | ACK, b""))
    for at, payload in ((0, b"GET"), (3, word), (3 + len(word), b" /"), (3, word)):
        engines.receive(segment(port, True, client + at, server, ACK, payload))
        engines.receive(segment(port, False, server, client + at + len(payload), ACK, b""))
    assert engines.both[0][1].seen


@settings(max_examples=400, deadline=None)
@given(
    st.lists(segments, max_size=30),
    st.sampled_from([0, 1, 2, 3, 3, 3]),
    st.sampled_from([80, 81]),
    st.sampled_from([StreamLimits(), StreamLimits(40, 3, 50)]),
    st.sampled_from([1 << 20, 100]),
)
def test_both_ways_are_one(
    script: list[tuple[bool, int, int, int, int, str]],
    handshake: int,
    port: int,
    limits: StreamLimits,
    total: int,
) -> None:
    engines = Engines(limits, total)
    starts = [start + 1 for start in STARTS]
    opening = [(True, SYN, 0), (False, SYN | ACK, starts[0]), (True, ACK, starts[1])]
    for to_server, flags, ack in opening[:handshake]:
        seq = starts[not to_server] - bool(flags & SYN)
        engines.receive(segment(port, to_server, seq, ack, flags, b""))
    reached = [0, 0]
    for to_server, jump, size, claim, flags, wrong in script:
        at = max(0, reached[not to_server] + jump)
        payload = STREAM[at : at + size]
        if wrong == "lie":
            payload = payload[:-1] + b"!"
        seq = starts[not to_server] + at
        ack = starts[to_server] + reached[to_server] + claim
        packet = segment(port, to_server, seq, ack, flags, payload)
        if wrong == "damage":
            packet = packet[:-1] + bytes([packet[-1] ^ 1])
        engines.receive(packet)
        if not wrong:
            reached[not to_server] = max(reached[not to_server], at + len(payload))


def segment(port: int, to_server: bool, seq: int, ack: int, flags: int, payload: bytes) -> bytes:
    ends = (A, B, 4000, port) if to_server else (B, A, port, 4000)
    mask = 0xFFFFFFFF
    return build_tcp(*ends, seq=seq & mask, ack=ack & mask, flags=flags, payload=payload)


def test_bytes_of_a_client_that_nobody_has_answered_are_suspect_on_both_ways() -> None:
    engines = Engines(StreamLimits(), 1 << 20)
    engines.receive(build_tcp(B, A, 80, 3999, seq=1, ack=1, flags=ACK))
    start = STARTS[0] + 1
    engines.receive(segment(80, True, start - 1, 0, SYN, b"GET"))
    engines.receive(segment(80, True, start + 3, 1, ACK, b" /"))
    assert engines.both[0][0].drops == {"stream_out_of_order": 1}


@pytest.mark.parametrize("port", [80, 81])
def test_both_ways_are_one_for_datagrams(port: int) -> None:
    engines = Engines(StreamLimits(), 1 << 20)
    for payload in (b"", b"0", b"both", b"mask", b"9", b"8", b"7", b"wait", b"evil", b"0"):
        engines.receive(build_udp(A, B, 4000, port, payload=payload))
        engines.receive(build_udp(B, A, port, 4000, payload=payload))
    assert engines.both[0][1].seen


def test_the_segments_of_a_test_take_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = Engines(StreamLimits(), 1 << 20)
    engine = engines.both[0][0]
    for to_server, flags in ((True, SYN), (False, SYN | ACK), (True, ACK), (True, ACK)):
        seq = STARTS[not to_server] + (not flags & SYN)
        ack = STARTS[to_server] + 1
        payload = b"GET" if to_server and flags == ACK else b""
        engines.receive(segment(80, to_server, seq, ack, flags, payload))
    shown = len(engines.both[0][1].seen)
    long = lambda *_: pytest.fail("the long way was taken")  # noqa: E731
    monkeypatch.setattr(engine.streams, "judge", long)
    data = build_geneve(1, 77) + segment(80, True, STARTS[0] + 4, STARTS[1] + 1, ACK, b" /")
    engine.receive(data, 0, len(data), PEER, LOCAL, 1.0)
    assert len(engines.both[0][1].seen) == shown + 1
