"""What the handler finds in real connections, and when it lets go of them."""

from __future__ import annotations

import pytest

from appliance_sdk.engine.decision import BYPASSED, HANDLED
from appliance_sdk.testing import Bench, TcpPeers
from appliance_sdk.wire.build import build_tcp
from appliance_sdk.wire.packet import ACK, SYN
from reference_appliances.analytics import Analytics, FlowRecord
from reference_appliances.analytics.probe import MOST_PACKETS

from .conftest import client_hello

HELLO = client_hello("shop.example")
A, B = b"\x0a\0\0\x01", b"\x0a\0\0\x02"


def ended(bench: Bench, peers: TcpPeers) -> FlowRecord:
    assert peers.close()
    bench.advance(5)
    (record,) = [e for e in bench.events if isinstance(e, FlowRecord)]
    return record


def test_a_flow_is_bypassed_as_soon_as_it_has_said_what_it_is() -> None:
    bench = Bench(Analytics)
    tls = bench.tcp("10.0.0.1", "10.0.0.2", 4443)
    assert tls.flow is not None
    assert tls.flow.mode == HANDLED
    assert tls.client_sends(HELLO)
    assert tls.flow.mode == BYPASSED
    record = ended(bench, tls)
    assert (record.application, record.host) == ("tls", "shop.example")


@pytest.mark.parametrize("segment", [60, 100, 0])
def test_a_hello_in_many_segments(segment: int) -> None:
    bench = Bench(Analytics, segment=segment)
    tls = bench.tcp("10.0.0.1", "10.0.0.2", 443)
    tls.client_sends(HELLO)
    assert ended(bench, tls).host == "shop.example"


def test_one_that_speaks_in_bytes_is_given_up_and_named_all_the_same() -> None:
    bench = Bench(Analytics, segment=1)
    http = bench.tcp("10.0.0.1", "10.0.0.2", 9999)
    assert http.client_sends(b"GET / HTTP/1.1\r\nX: " + b"a" * MOST_PACKETS)
    assert http.flow is not None
    assert http.flow.mode == BYPASSED
    assert ended(bench, http).application == "http"


def test_the_server_may_speak_first() -> None:
    bench = Bench(Analytics)
    ssh = bench.tcp("10.0.0.1", "10.0.0.2", 2222)
    ssh.server_sends(b"SSH-2.0-x\r\n")
    assert ended(bench, ssh).application == "ssh"


def test_what_is_cut_short_is_named_at_the_end() -> None:
    bench = Bench(Analytics)
    http = bench.tcp("10.0.0.1", "10.0.0.2", 9999)
    http.client_sends(b"GET /x")
    assert ended(bench, http).application == "http"


def test_a_silent_flow_is_named_by_its_port_and_let_go() -> None:
    bench = Bench(Analytics)
    smtp = bench.tcp("10.0.0.1", "10.0.0.2", 25)
    for _ in range(MOST_PACKETS):
        bench.send(build_tcp(A, B, 40000, 25, flags=ACK, seq=1, ack=1))
    assert smtp.flow is not None
    assert smtp.flow.mode == BYPASSED
    assert ended(bench, smtp).application == "smtp"


def test_segments_out_of_order_or_sent_again_do_not_mix_up_the_bytes() -> None:
    bench = Bench(Analytics)

    def send(seq: int, payload: bytes = b"", flags: int = ACK) -> None:
        assert bench.send(build_tcp(A, B, 40000, 443, flags=flags, seq=seq, ack=1, payload=payload))

    isn = 0xFFFFFFFF - 20  # the numbers wrap inside the hello
    send(isn, flags=SYN)
    send(isn + 101 & 0xFFFFFFFF, HELLO[100:200])  # too early: not looked at
    send(isn + 1, HELLO[:100])
    send(isn + 1, HELLO[:100])
    send(isn + 101 & 0xFFFFFFFF, HELLO[100:])
    bench.close()
    (record,) = [e for e in bench.events if isinstance(e, FlowRecord)]
    assert (record.application, record.host) == ("tls", "shop.example")


def test_data_in_the_syn() -> None:
    bench = Bench(Analytics)
    bench.send(build_tcp(A, B, 40000, 80, flags=SYN, seq=5, payload=b"GET / HTTP/1.0\r\n\r\n"))
    bench.close()
    (record,) = [e for e in bench.events if isinstance(e, FlowRecord)]
    assert record.application == "http"


def test_what_was_found_survives_a_restart() -> None:
    bench = Bench(Analytics)
    tls = bench.tcp("10.0.0.1", "10.0.0.2", 4443)
    tls.client_sends(HELLO)
    bench.restart()
    bench.events.clear()
    assert tls.client_sends(b"more")
    assert tls.flow is not None
    assert ended(bench, tls).host == "shop.example"
