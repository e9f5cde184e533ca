"""What stands around a flow's packets: that of the newest, however much flows share of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance_sdk.engine import FORWARD, Engine
from appliance_sdk.flow import table
from appliance_sdk.plugin.base import Plugin
from appliance_sdk.plugin.flow import Flow
from appliance_sdk.plugin.handler import Opening
from appliance_sdk.plugin.verdict import Verdict
from appliance_sdk.testing import Bench
from appliance_sdk.wire.build import build_udp
from appliance_sdk.wire.geneve import AWS_OPTION_CLASS, Option, build_geneve

A, B = b"\x0a\0\0\x01", b"\x0a\0\0\x02"
PEERS = b"\xee\x48\x0a\x09\0\x0b", b"\xee\x49\x0a\x09\0\x0b", b"\xee\x48\x0a\x09\0\x0c"
LOCALS = b"\x0a\x09\x01\x15", b"\x0a\x09\x01\x16"
UNKNOWN = Option(AWS_OPTION_CLASS, 9, b"\1\2\3\4")


class Watcher(Plugin):
    def flow_opened(self, flow: Flow) -> Opening:
        return None


def reordered(cookie: int) -> bytes:
    """The same options as GWLB sends, the endpoint's last."""
    usual = build_geneve(5, cookie, attachment_id=6)
    return usual[:8] + usual[32:40] + usual[20:32] + usual[8:20]


headers = st.one_of(
    st.builds(
        lambda cookie, attachment, vni: build_geneve(5, cookie, attachment_id=attachment, vni=vni),
        st.sampled_from([1, 2, 0x80000001, 0xFFFFFFFF]),
        st.sampled_from([0, 6, 7]),
        st.sampled_from([0, 0, 3]),
    ),
    st.builds(reordered, st.sampled_from([1, 2])),
    st.builds(lambda cookie: build_geneve(5, cookie, extra=[UNKNOWN]), st.sampled_from([1, 2])),
)


def short_way_only(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    long: Callable[..., int] = lambda *_: pytest.fail("the long way was taken")  # noqa: E731
    monkeypatch.setattr(engine.judge, "datagram", long)


@given(
    st.lists(
        st.tuples(
            st.integers(4000, 4002),
            st.booleans(),
            headers,
            st.sampled_from(PEERS),
            st.sampled_from(LOCALS),
        ),
        max_size=30,
    )
)
def test_it_is_that_of_the_newest_packet(
    packets: list[tuple[int, bool, bytes, bytes, bytes]],
) -> None:
    engine = Bench(Watcher).engine
    newest = {}
    for port, to_server, header, peer, local in packets:
        ends = (A, B, port, 53) if to_server else (B, A, 53, port)
        data = header + build_udp(*ends, payload=b"?")
        assert engine.receive(data, 0, len(data), peer, local, 1.0) == FORWARD
        newest[frozenset((port, 53))] = peer, local, header
    found = {}
    for flow in engine.flows:
        engine.send(flow, b"mine")
        found[frozenset((flow.client_port, flow.server_port))] = flow.peer, flow.local, flow.header
    assert found == newest
    answers = [(peer, local, header + b"mine") for peer, local, header in found.values()]
    assert engine.outbox == answers
    assert engine.received == engine.forwarded == len(packets)


def test_the_cookie_of_another_flow_is_not_taken_for_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = Bench(Watcher).engine
    for cookie, port in ((1, 4000), (2, 4001)):
        data = build_geneve(5, cookie) + build_udp(A, B, port, 53)
        engine.receive(data, 0, len(data), PEERS[0], LOCALS[0], 1.0)
    data = build_geneve(5, 2) + build_udp(A, B, 4000, 53)
    engine.receive(data, 0, len(data), PEERS[0], LOCALS[0], 1.0)
    assert [flow.cookie for flow in engine.flows] == [2, 2]
    assert [flow.info().cookie for flow in engine.flows] == [2, 2]
    short_way_only(engine, monkeypatch)
    assert engine.receive(data, 0, len(data), PEERS[0], LOCALS[0], 1.0) == FORWARD


def test_an_endpoint_that_stands_where_the_cookie_is_usual_stays_apart() -> None:
    engine = Bench(Watcher).engine
    usual = build_geneve(5, 1)
    for endpoint in (5, 6):
        header = usual[:8] + usual[32:40] + usual[20:32] + build_geneve(endpoint, 1)[8:20]
        data = header + build_udp(A, B, 4000, 53)
        for _ in range(3):
            assert engine.receive(data, 0, len(data), PEERS[0], LOCALS[0], 1.0) == FORWARD
    packets = {flow.lane.endpoint_id: flow.packets_to_server for flow in engine.flows}
    assert packets == {5: 3, 6: 3}


def test_headers_without_end_are_not_all_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_HEADS_KEPT", 8)
    engine = Bench(Watcher).engine
    packet = build_udp(A, B, 4000, 53)
    for attachment in range(1, 100):
        data = build_geneve(5, 1, attachment_id=attachment) + packet
        assert engine.receive(data, 0, len(data), PEERS[0], LOCALS[0], 1.0) == FORWARD
        assert len(engine.table.usual[17]) <= 8
    (flow,) = engine.flows
    assert flow.info().attachment_id == 99
    engine.table.usual[17].clear()
    engine.receive(data, 0, len(data), PEERS[0], LOCALS[0], 1.0)
    short_way_only(engine, monkeypatch)
    assert engine.receive(data, 0, len(data), PEERS[0], LOCALS[0], 1.0) == FORWARD
    assert flow.packets_to_server == 101


def test_a_restored_flow_learns_it_from_its_next_packet() -> None:
    bench = Bench(Watcher)
    data = build_geneve(5, 3, attachment_id=6) + build_udp(A, B, 4000, 53)
    bench.engine.receive(data, 0, len(data), PEERS[0], LOCALS[0], bench.now)
    bench.restart()
    (flow,) = bench.flows
    assert (flow.header, flow.peer, flow.local, flow.cookie) == (b"", b"", b"", 0)
    bench.engine.receive(data, 0, len(data), PEERS[1], LOCALS[1], bench.now)
    assert (flow.header, flow.peer, flow.local) == (data[:40], PEERS[1], LOCALS[1])
    assert (flow.cookie, flow.info().attachment_id) == (3, 6)
    assert flow.verdict == Verdict.CONTINUE
