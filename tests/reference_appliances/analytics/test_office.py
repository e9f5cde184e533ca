"""The shipped capture: what is recorded is what was captured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from importlib.resources import as_file, files

import dpkt
import pytest

from appliance_sdk import FlowEnded
from appliance_sdk.testing import Bench
from reference_appliances.analytics import Analytics, FlowRecord, TopTalkers

OFFICE = files("reference_appliances.firewall") / "examples" / "office.pcap"


@pytest.fixture(scope="module")
def office() -> Iterator[Bench]:
    with as_file(OFFICE) as capture:
        bench = Bench(Analytics)
        bench.replay(capture)
        bench.close()
        yield bench


@pytest.fixture(scope="module")
def records(office: Bench) -> list[FlowRecord]:
    return [e for e in office.events if isinstance(e, FlowRecord)]


def test_every_packet_and_byte_of_the_capture_is_recorded(records: list[FlowRecord]) -> None:
    packets = octets = 0
    with as_file(OFFICE) as path, path.open("rb") as file:
        for _, frame in dpkt.pcap.Reader(file):
            ethernet = dpkt.ethernet.Ethernet(frame)
            packets += 1
            octets += len(bytes(ethernet.data))
    assert sum(r.to_server_packets + r.to_client_packets for r in records) == packets
    assert sum(r.to_server_bytes + r.to_client_bytes for r in records) == octets


def test_every_packet_passes(office: Bench) -> None:
    engine = office.engine
    assert engine.received == engine.forwarded == 378
    assert engine.edited == engine.injected == 0
    assert not engine.guard.errors


def test_there_is_a_record_for_each_flow(office: Bench, records: list[FlowRecord]) -> None:
    ended = {e.flow.id: e for e in office.events if isinstance(e, FlowEnded) and e.flow}
    assert len(ended) == len(records)
    for record in records:
        assert record.flow is not None
        other = ended[record.flow.id]
        assert record.end_reason == other.end_reason
        assert record.to_client_bytes == other.bytes_to_client
        assert record.duration_s == pytest.approx(other.last_seen - other.opened_at)


def test_programs_are_known_by_what_they_said(records: list[FlowRecord]) -> None:
    names = Counter(record.application for record in records)
    assert names["ssh"] == 3
    assert names["http"] == 4
    assert names["tls"] == 2
    assert {r.host for r in records if r.application == "http"} == {
        "",
        "10.30.0.80",
        "[fd00:30::80]",
    }


def test_rankings_add_up_to_the_records(office: Bench, records: list[FlowRecord]) -> None:
    total = sum(r.to_server_bytes + r.to_client_bytes for r in records)
    rankings = [e for e in office.events if isinstance(e, TopTalkers)]
    assert len(rankings) == 3
    for ranking in rankings:
        assert ranking.total_bytes == total
        assert ranking.bound_bytes == 0
