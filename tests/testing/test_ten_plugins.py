"""Four plugins of kinds that vendors write: exporter, clamp and redact, feed, streaming matcher."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

from appliance_sdk import (
    Chunk,
    CidrSet,
    Event,
    Flow,
    FlowHandler,
    Opening,
    Outcome,
    Packet,
    Plugin,
    PluginConfig,
    Sink,
    Verdict,
)
from appliance_sdk.testing import Bench
from appliance_sdk.wire.build import build_tcp
from appliance_sdk.wire.checksum import transport_checksum
from appliance_sdk.wire.packet import SYN


class Ids(Plugin):
    db: re.Pattern[bytes]

    @classmethod
    def load(cls, config: PluginConfig) -> bytes:
        return b"evil|attack"

    def loaded(self, data: bytes) -> None:
        self.db = re.compile(data)

    def flow_opened(self, flow: Flow) -> Outcome | FlowHandler[Any]:
        return Scan()


class Scan(FlowHandler["Ids"]):
    lookback: ClassVar[int] = 256
    seen: set[str] = set()

    def data(self, chunk: Chunk) -> Outcome:
        for m in self.plugin.db.finditer(chunk.data):
            if m.end() > chunk.fresh:
                self.flow.alert("pattern", rule=m[0].decode("latin-1"))
        return None


def test_a_pattern_is_found_once_across_every_segment_border() -> None:
    for segment in (1, 2, 3, 0):
        bench = Bench(Ids, segment=segment)
        web = bench.tcp("10.0.0.1", "10.0.0.2", 80)
        assert web.client_sends(b"an attack, evil and an attack")
        assert [a.rule for a in bench.alerts] == ["attack", "evil", "attack"]
        alert = bench.alerts[0]
        assert alert.plugin == "ids"
        assert alert.flow is not None
        assert (alert.flow.client_ip, alert.flow.server_port) == ("10.0.0.1", 80)


def test_udp_payloads_are_scanned_too() -> None:
    bench = Bench(Ids)
    assert bench.udp("10.0.0.1", "10.0.0.2", 53).client_sends(b"evil")
    assert [a.rule for a in bench.alerts] == ["evil"]


class Record(Event):
    key: str
    packets: int
    bytes: int
    final: bool


class Exporter(Plugin):
    def flow_opened(self, flow: Flow) -> FlowHandler[Any]:
        h = Export()
        h.wake(60)
        return h

    def flow_closed(self, flow: Flow, handler: FlowHandler[Any] | None) -> None:
        if isinstance(handler, Export):
            handler.report(final=True)


class Export(FlowHandler["Exporter"]):
    packets: int = 0
    octets: int = 0

    def report(self, final: bool) -> None:
        s = self.flow.to_server
        self.plugin.emit(
            Record(str(self.flow), s.packets - self.packets, s.bytes - self.octets, final),
            self.flow,
        )
        self.packets, self.octets = s.packets, s.bytes

    def woken(self) -> Outcome:
        self.report(final=False)
        self.wake(60)
        return None


class Ipfix(Sink):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[Event] = []

    def write(self, events: Sequence[Event]) -> None:
        self.records.extend(events)


def test_the_exporter_reports_every_minute_and_once_at_the_end() -> None:
    bench = Bench(Exporter)
    web = bench.tcp("10.0.0.1", "10.0.0.2", 80)
    for _ in range(3):
        bench.advance(50)
        web.client_sends(b"x" * 100)
    web.close()
    bench.advance(10)
    sink = Ipfix()
    sink.write([e for e in bench.events if isinstance(e, Record)])
    records = [r for r in sink.records if isinstance(r, Record)]
    assert [r.final for r in records] == [False, False, True]
    flow = web.flow
    assert flow is not None
    assert sum(r.packets for r in records) == flow.to_server.packets == 7
    assert sum(r.bytes for r in records) == flow.to_server.bytes
    assert records[0].key.startswith("tcp 10.0.0.1:")


class Clamp(Plugin):
    def flow_opened(self, flow: Flow) -> Outcome | FlowHandler[Any]:
        return Clamped() if flow.protocol == "tcp" else Verdict.DONE


class Clamped(FlowHandler["Clamp"]):
    def packet(self, packet: Packet) -> Outcome:
        if packet.tcp and packet.tcp.syn:
            packet.clamp_mss(1360)
            return None
        return Verdict.DONE if self.flow.established else None


class Redact(FlowHandler["Redacting"]):
    lookback: ClassVar[int] = 15
    edits: ClassVar[bool] = True

    def data(self, chunk: Chunk) -> Outcome:
        for m in re.finditer(rb"\d{16}", chunk.data):
            chunk.mask(max(m.start(), chunk.fresh), m.end())
        return None


class Redacting(Plugin):
    def flow_opened(self, flow: Flow) -> Opening:
        return Redact()


def test_the_mss_of_a_syn_is_clamped_and_its_checksum_right() -> None:
    bench = Bench(Clamp)
    syn = build_tcp(
        b"\x0a\0\0\x01", b"\x0a\0\0\x02", 4000, 80, seq=9, flags=SYN, options=b"\x02\x04\x05\xb4"
    )
    (out,) = bench.send(syn)
    assert out[40:44] == b"\x02\x04" + (1360).to_bytes(2, "big")
    assert transport_checksum(out[12:16], out[16:20], 6, out[20:]) == 0
    assert out[:20] == syn[:20]
    small = build_tcp(
        b"\x0a\0\0\x01", b"\x0a\0\0\x02", 4001, 80, seq=9, flags=SYN, options=b"\x02\x04\x02\x00"
    )
    assert bench.send(small) == [small]


def test_after_the_handshake_the_clamped_flow_is_bypassed() -> None:
    bench = Bench(Clamp)
    web = bench.tcp("10.0.0.1", "10.0.0.2", 80)
    web.client_sends(b"x")
    assert web.flow is not None
    assert web.flow._inspection.on_packet == ()


def test_card_numbers_are_masked_in_one_piece() -> None:
    bench = Bench(Redacting)
    web = bench.tcp("10.0.0.1", "10.0.0.2", 80)
    assert web.client_sends(b"card 1234567890123456 thanks")
    assert web.server_received == b"card **************** thanks"


def test_only_the_rest_of_a_card_number_can_be_masked_once_its_beginning_has_left() -> None:
    bench = Bench(Redacting, segment=6)
    web = bench.tcp("10.0.0.1", "10.0.0.2", 80)
    assert web.client_sends(b"card 1234567890123456 thanks")
    assert web.server_received == b"card 1234567890123*** thanks"


class FeedConfig(PluginConfig, frozen=True):
    url: str = ""


class Feed(Plugin):
    config: FeedConfig
    bad: CidrSet = CidrSet(())
    listed: ClassVar[list[str]] = []

    @classmethod
    def load(cls, config: FeedConfig) -> list[str]:
        return cls.listed

    def loaded(self, data: list[str]) -> None:
        self.bad = CidrSet(data)
        self.recheck_flows()

    def flow_opened(self, flow: Flow) -> Outcome:
        return Verdict.BLOCK.because("feed") if flow.server_ip in self.bad else Verdict.DONE

    def recheck(self, flow: Flow, handler: FlowHandler[Any] | None) -> Outcome:
        return self.flow_opened(flow)


def test_a_new_feed_blocks_flows_that_are_live_already() -> None:
    Feed.listed = []
    bench = Bench(Feed)
    bad = bench.tcp("10.0.0.1", "203.0.113.9", 443)
    good = bench.tcp("10.0.0.1", "198.51.100.9", 443)
    assert bad.client_sends(b"1")
    Feed.listed = ["203.0.113.0/24"]
    bench.reload()
    bench.advance(0.1)
    assert not bad.client_sends(b"2")
    assert bad.verdict == Verdict.BLOCK
    assert bad.verdict.reason == "feed"
    assert good.client_sends(b"2")
    assert bench.tcp("10.0.0.1", "203.0.113.10", 443).verdict == Verdict.BLOCK
