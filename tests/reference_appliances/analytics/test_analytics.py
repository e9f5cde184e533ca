"""The plugin: every flow is recorded, nothing is stopped."""

from __future__ import annotations

import random
from typing import Any

import pytest

from appliance_sdk import ConfigError, Flow, Outcome, Plugin, Verdict
from appliance_sdk.engine.decision import BYPASSED
from appliance_sdk.testing import Bench, ZoneSettings
from reference_appliances.analytics import Analytics, FlowRecord, Talker, TopTalkers


def records(bench: Bench) -> list[FlowRecord]:
    return [e for e in bench.events if isinstance(e, FlowRecord)]


def tops(bench: Bench) -> dict[str, TopTalkers]:
    return {",".join(e.fields): e for e in bench.events if isinstance(e, TopTalkers)}


def test_the_record_of_a_connection() -> None:
    bench = Bench(Analytics)
    web = bench.tcp("10.0.0.1", "10.0.0.2", 80, client_port=4000)
    bench.advance(2)
    web.client_sends(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
    web.server_sends(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100)
    bench.advance(1)
    web.close()
    bench.advance(5)
    (record,) = records(bench)
    assert record.flow is not None
    assert str(record.flow) == "tcp 10.0.0.1:4000 -> 10.0.0.2:80"
    assert (record.application, record.host) == ("http", "a.example")
    assert (record.end_reason, record.verdict) == ("fin", "forward")
    assert record.direction_sure
    assert not record.midstream
    assert record.duration_s == pytest.approx(3)
    assert record.silent_s == pytest.approx(2, abs=0.5)
    assert web.flow is not None
    assert record.to_server_packets == web.flow.to_server.packets
    assert record.to_client_bytes == web.flow.to_client.bytes > 100


def test_flows_of_which_nothing_is_to_be_read_have_no_handler() -> None:
    bench = Bench(Analytics)
    dns = bench.udp("10.0.0.1", "10.0.0.2", 53)
    dns.client_sends(b"?")
    middle = bench.tcp("10.0.0.1", "10.0.0.2", 443, midstream=True)
    middle.client_sends(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    for flow in bench.flows:
        assert flow.mode == BYPASSED
        assert not flow._inspection.handlers
    bench.close()
    by_name = {record.application: record for record in records(bench)}
    assert set(by_name) == {"dns", "tls"}
    assert by_name["tls"].midstream
    assert not by_name["tls"].direction_sure


def test_without_inspection_ports_have_the_word() -> None:
    bench = Bench(Analytics, inspect=False)
    bench.tcp("10.0.0.1", "10.0.0.2", 80).client_sends(b"SSH-2.0-x\r\n")
    bench.close()
    assert [record.application for record in records(bench)] == ["http"]


class Guard(Plugin):
    def flow_opened(self, flow: Flow) -> Outcome:
        return Verdict.BLOCK if flow.server_port == 23 else Verdict.DONE


def test_what_another_plugin_stops_is_recorded_as_stopped() -> None:
    bench = Bench(Analytics, Guard)
    assert bench.tcp("10.0.0.1", "10.0.0.2", 23).verdict == Verdict.BLOCK
    bench.close()
    (record,) = records(bench)
    assert (record.verdict, record.to_server_packets) == ("block", 1)


def test_hostile_packets_pass_and_nothing_fails() -> None:
    bench = Bench(Analytics)
    chance = random.Random(7)
    sent = 0
    for port in range(200):
        tcp = bench.tcp("10.0.0.1", "10.0.0.2", port + 1)
        for _ in range(3):
            opening = chance.choice((b"\x16\x03\x01\0\xff\x01", b"GET /\r\nHost:", b"SSH-", b""))
            assert tcp.client_sends(opening + chance.randbytes(chance.randrange(1, 60)))
            sent += 1
    bench.close()
    assert sent == 600
    assert len(records(bench)) == 200
    assert not bench.engine.drops
    assert not bench.engine.guard.errors


def test_who_has_most_in_a_period() -> None:
    bench = Bench(Analytics, period_s=400)
    for client, datagrams in (("10.0.0.1", 1), ("10.0.0.2", 5), ("10.0.0.3", 3)):
        for _ in range(datagrams):
            bench.udp(client, "10.0.9.9", 53).client_sends(b"x" * 72)
    bench.udp("10.0.0.3", "10.0.9.9", 123).client_sends(b"x" * 72)
    bench.advance(400)
    top = tops(bench)
    assert set(top) == {"endpoint", "application", "endpoint,client_ip"}
    assert top["application"].talkers == [
        Talker(["dns"], 900, 0, 9),
        Talker(["ntp"], 100, 0, 1),
    ]
    clients = top["endpoint,client_ip"]
    assert [(t.key[1], t.bytes) for t in clients.talkers] == [
        ("10.0.0.2", 500),
        ("10.0.0.3", 400),
        ("10.0.0.1", 100),
    ]
    assert (clients.total_bytes, clients.bound_bytes, clients.period_s) == (1000, 0, 400)
    bench.events.clear()
    bench.advance(400)
    assert not tops(bench)  # a period in which nothing ended


def test_what_a_ranking_remembers_is_bounded_and_says_so() -> None:
    bench = Bench(Analytics, rankings=("client_ip",), remembered=20, places=5)
    for number in range(1, 201):
        bench.udp(f"10.0.0.{number}", "10.0.9.9", 53).client_sends(b"x" * 72)
    bench.close()
    top = tops(bench)["client_ip"]
    assert len(top.talkers) == 5
    assert top.total_bytes == 20_000
    assert 0 < top.bound_bytes <= 20_000 / 20


def test_no_period_no_rankings() -> None:
    bench = Bench(Analytics, period_s=0)
    bench.udp("10.0.0.1", "10.0.0.2", 53).client_sends(b"?")
    bench.close()
    assert len(records(bench)) == 1
    assert not tops(bench)


def test_the_log_names_the_first(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(Analytics, rankings=("client_ip",))
    bench.udp("10.0.0.1", "10.0.9.9", 53).client_sends(b"x" * 72)
    bench.close()
    (line,) = [record.getMessage() for record in caplog.records]
    assert "top talkers" in line
    assert "{'10.0.0.1': 100}" in line


def test_zones_are_ranked_apart() -> None:
    other = "vpce-0000000000000000b"
    bench = Bench(Analytics, zones={"lab": ZoneSettings(endpoints=(other,))})
    bench.udp("10.0.0.1", "10.0.9.9", 53).client_sends(b"?")
    bench.udp("10.0.0.1", "10.0.9.9", 53, endpoint=other).client_sends(b"?")
    bench.close()
    endpoints = [e for e in bench.events if isinstance(e, TopTalkers) and e.fields == ["endpoint"]]
    assert {(e.zone, e.talkers[0].key[0]) for e in endpoints} == {
        ("default", "vpce-0a1b2c3d4e5f60718"),
        ("lab", other),
    }


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ({"on_error": "block"}, "`on_error` can only be `continue`"),
        ({"midstream": "reject"}, "analytics stops nothing"),
        ({"rankings": ["client"]}, "did you mean `client_ip`"),
        ({"period_s": -1}, "`period_s`"),
        ({"places": 0}, "`places`"),
        ({"places": 30, "remembered": 20}, "`places`"),
    ],
)
def test_settings_that_cannot_be(setting: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        Bench(Analytics, **setting)
