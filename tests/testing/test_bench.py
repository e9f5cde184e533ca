"""The bench itself: what vendors rely on when they test their plugins."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance_sdk import (
    Chunk,
    ConfigError,
    Flow,
    FlowHandler,
    Opening,
    Outcome,
    Plugin,
    PluginConfig,
    PluginError,
    Verdict,
)
from appliance_sdk.testing import Bench, EngineSettings, ZoneSettings
from appliance_sdk.wire.build import build_tcp, build_udp
from appliance_sdk.wire.capture import CaptureWriter
from appliance_sdk.wire.packet import SYN

A, B = b"\x0a\0\0\x01", b"\x0a\0\0\x02"


class Config(PluginConfig, frozen=True):
    port: int = 23


class Blocks(Plugin):
    config: Config

    def flow_opened(self, flow: Flow) -> Opening:
        return Verdict.BLOCK if flow.server_port == self.config.port else Sizes()


class Sizes(FlowHandler["Blocks"]):
    sizes: list[int] = []
    greeting: str = ""
    _seen: int = 0

    def data(self, chunk: Chunk) -> Outcome:
        self.sizes.append(len(chunk.data) - chunk.fresh)
        self._seen += 1
        return None

    def restored(self) -> None:
        self.greeting = f"back after {len(self.sizes)}"


def handler(bench: Bench) -> Sizes:
    (flow,) = bench.flows
    (found,) = flow._inspection.handlers.values()
    assert isinstance(found, Sizes)
    return found


def test_keyword_arguments_are_the_plugins_configuration() -> None:
    assert Bench(Blocks, port=80).tcp("10.0.0.1", "10.0.0.2", 80).verdict == Verdict.BLOCK
    with pytest.raises(ConfigError, match=r"no plugin here has the setting `prot` \(did you mean"):
        Bench(Blocks, prot=80)
    with pytest.raises(ConfigError, match=r"plugins\.blocks\.port"):
        Bench(Blocks, port="80")


def test_zones_have_their_own_settings() -> None:
    zones = {"prod": ZoneSettings(("vpce-1a2b3c4d",), {"blocks": {"port": 80}})}
    bench = Bench(Blocks, zones=zones)
    assert bench.tcp("10.0.0.1", "10.0.0.2", 80, endpoint="vpce-1a2b3c4d").verdict == Verdict.BLOCK
    assert bench.tcp("10.0.0.1", "10.0.0.2", 80).client_sends(b"x")


@pytest.mark.parametrize(("segment", "sizes"), [(0, [5]), (2, [2, 2, 1]), (1, [1] * 5)])
def test_segment_cuts_every_stream(segment: int, sizes: list[int]) -> None:
    bench = Bench(Blocks, segment=segment)
    assert bench.tcp("10.0.0.1", "10.0.0.2", 80).client_sends(b"hello")
    assert handler(bench).sizes == sizes


def test_ipv6_and_udp_have_peers_too() -> None:
    bench = Bench(Blocks)
    web = bench.tcp("2001:db8::1", "2001:db8::2", 80)
    assert web.client_sends(b"there")
    assert web.server_sends(b"back")
    assert (web.server_received, web.client_received) == (b"there", b"back")
    dns = bench.udp("10.0.0.1", "10.0.0.2", 53)
    assert dns.client_sends(b"?")
    assert dns.server_sends(b"!")
    assert dns.flow is not None
    assert dns.flow.established


def test_a_capture_is_replayed_at_its_own_time(tmp_path: Path) -> None:
    path = tmp_path / "some.pcap"
    with CaptureWriter(path) as capture:
        capture.write(5000.0, build_tcp(A, B, 4000, 80, flags=SYN))
        capture.write(5000.5, build_tcp(A, B, 4001, 23, flags=SYN))
        capture.write(5200.0, build_udp(A, B, 4002, 80, payload=b"x"))
    bench = Bench(Blocks)
    start = bench.now
    assert bench.replay(path) == 2
    assert bench.now == pytest.approx(start + 200)
    assert [f.protocol for f in bench.flows] == ["udp"]


def test_a_restart_keeps_public_fields_and_calls_restored() -> None:
    bench = Bench(Blocks)
    web = bench.tcp("10.0.0.1", "10.0.0.2", 80)
    web.client_sends(b"hello")
    before = handler(bench)
    bench.restart()
    after = handler(bench)
    assert after is not before
    assert after.sizes == [5]
    assert after._seen == 0
    assert after.greeting == "back after 1"
    assert web.client_sends(b"again")


def test_what_load_returns_must_cross_to_another_process() -> None:
    class Bad(Plugin):
        @classmethod
        def load(cls, config: PluginConfig) -> object:
            return object()

    with pytest.raises(PluginError, match="must return plain data"):
        Bench(Bad)


def test_the_engines_limits_can_be_set() -> None:
    bench = Bench(Blocks, settings=EngineSettings(max_flows=1))
    assert bench.tcp("10.0.0.1", "10.0.0.2", 80).client_sends(b"x")
    assert bench.tcp("10.0.0.1", "10.0.0.2", 81).verdict == Verdict.DROP


def test_one_worker_is_what_this_version_has() -> None:
    with pytest.raises(ConfigError, match="one worker"):
        Bench(Blocks, workers=2)


class Fills(FlowHandler["Keeps"]):
    """Keeps everything it sees, and is particular about what it gets back."""

    seen: bytes = b""

    def __post_init__(self) -> None:
        if self.seen == b"bad":
            raise KeyError(self.seen)

    def data(self, chunk: Chunk) -> Outcome:
        self.seen += chunk.data
        return None

    def restored(self) -> None:
        if self.seen == b"worse":
            raise RuntimeError


class Keeps(Plugin):
    def flow_opened(self, flow: Flow) -> Opening:
        return Fills()


def test_a_flow_whose_state_fits_nowhere_costs_the_others_nothing() -> None:
    bench = Bench(Keeps)
    kept = {}
    for text in (b"first", b"x" * 100_000, b"bad", b"last"):
        kept[text] = bench.tcp("10.0.0.1", "10.0.0.2", 80)
        assert kept[text].client_sends(text)
    bench.restart()
    assert len(bench.flows) == 2
    assert kept[b"first"].flow in bench.flows
    assert kept[b"last"].flow in bench.flows
    assert bench.engine.metrics["engine.state_refused"] == 1


def test_a_handler_that_cannot_go_on_after_a_restart_is_answered_by_its_policy() -> None:
    bench = Bench(Keeps)
    web = bench.tcp("10.0.0.1", "10.0.0.2", 80)
    assert web.client_sends(b"worse")
    bench.restart()
    assert not web.client_sends(b"x")
    assert web.verdict == Verdict.BLOCK
