"""How flows begin and end in the engine, and what keeps them apart."""

from __future__ import annotations

from typing import Any

import pytest

from appliance_sdk.engine import DROP, FORWARD, EngineSettings
from appliance_sdk.plugin.base import Plugin
from appliance_sdk.plugin.chunk import Chunk
from appliance_sdk.plugin.events import Anomaly, FlowEnded
from appliance_sdk.plugin.flow import Flow
from appliance_sdk.plugin.handler import FlowHandler, Opening, Outcome
from appliance_sdk.plugin.manager import ZoneSettings
from appliance_sdk.plugin.packet import Packet
from appliance_sdk.plugin.verdict import Verdict
from appliance_sdk.testing import Bench
from appliance_sdk.wire.build import build_icmp, build_ip, build_tcp, build_udp, fragment_packet
from appliance_sdk.wire.geneve import build_geneve, parse_geneve
from appliance_sdk.wire.packet import ACK, RST, SYN

A, B = b"\x0a\0\0\x01", b"\x0a\0\0\x02"
A6, B6 = b"\x20\x01\x0d\xb8" + bytes(11) + b"\x01", b"\x20\x01\x0d\xb8" + bytes(11) + b"\x02"
PEER = (61000).to_bytes(2, "big") + b"\x0a\x09\0\x0b"
LOCAL = b"\x0a\x09\x01\x15"


class Watcher(Plugin):
    def flow_opened(self, flow: Flow) -> Opening:
        return None


def ended(bench: Bench) -> list[str]:
    return [e.end_reason for e in bench.events if isinstance(e, FlowEnded)]


def datagram(packet: bytes, cookie: int = 1, endpoint_id: int = 5) -> bytes:
    ethertype = 0x86DD if packet[0] >> 4 == 6 else 0x0800
    return build_geneve(endpoint_id, cookie, ethertype=ethertype) + packet


def test_a_closed_connection_lingers_and_ends_as_fin() -> None:
    bench = Bench(Watcher)
    web = bench.tcp("10.0.0.1", "10.0.0.2", 80)
    assert web.close()
    assert len(bench.flows) == 1
    bench.advance(5)
    assert bench.flows == []
    assert ended(bench) == ["fin"]


def test_a_reset_ends_a_flow() -> None:
    bench = Bench(Watcher)
    web = bench.tcp("10.0.0.1", "10.0.0.2", 80)
    assert web.reset()
    bench.advance(5)
    assert ended(bench) == ["rst"]


@pytest.mark.parametrize(("protocol", "idle_s"), [("tcp", 360), ("udp", 130)])
def test_a_silent_flow_ends_after_gwlb_has_forgotten_it(protocol: str, idle_s: float) -> None:
    bench = Bench(Watcher)
    if protocol == "tcp":
        bench.tcp("10.0.0.1", "10.0.0.2", 80)
    else:
        assert bench.udp("10.0.0.1", "10.0.0.2", 53).client_sends(b"x")
    bench.advance(idle_s - 1)
    assert len(bench.flows) == 1
    bench.advance(3)
    assert ended(bench) == ["idle"]


def test_a_half_open_flow_ends_after_thirty_seconds() -> None:
    bench = Bench(Watcher)
    bench.send(build_tcp(A, B, 4000, 80, flags=SYN))
    bench.advance(29)
    assert len(bench.flows) == 1
    bench.advance(3)
    assert ended(bench) == ["idle"]


def test_a_full_table_gives_up_half_open_flows_and_refuses_beyond() -> None:
    bench = Bench(Watcher, settings=EngineSettings(max_flows=2))
    first = bench.tcp("10.0.0.1", "10.0.0.2", 80)
    bench.send(build_tcp(A, B, 4000, 80, flags=SYN))
    second = bench.tcp("10.0.0.1", "10.0.0.2", 81)
    assert ended(bench) == ["evicted"]
    assert second.client_sends(b"x")
    assert bench.send(build_tcp(A, B, 4001, 80, flags=SYN)) == []
    assert bench.engine.drops["table_full"] == 1
    assert first.client_sends(b"x")
    open_bench = Bench(Watcher, settings=EngineSettings(max_flows=0, table_full="continue"))
    assert len(open_bench.send(build_tcp(A, B, 4001, 80, flags=SYN))) == 1


def test_a_syn_with_another_number_on_a_closed_flow_is_a_new_flow() -> None:
    bench = Bench(Watcher)
    web = bench.tcp("10.0.0.1", "10.0.0.2", 80, client_port=4000)
    web.close()
    first = web.flow
    bench.send(build_tcp(A, B, 4000, 80, seq=99_999, flags=SYN))
    assert ended(bench) == ["fin"]
    assert bench.flows != [first]


def test_a_repeated_syn_of_a_refused_flow_is_no_new_flow() -> None:
    asked: list[str] = []

    class Refuses(Plugin):
        def flow_opened(self, flow: Flow) -> Opening:
            asked.append(str(flow))
            return Verdict.BLOCK

    bench = Bench(Refuses)
    syn = build_tcp(A, B, 4000, 80, seq=7, flags=SYN)
    for _ in range(3):
        assert bench.send(syn) == []
        bench.advance(1)
    assert len(asked) == 1
    bench.send(build_tcp(A, B, 4000, 80, seq=8, flags=SYN))
    assert len(asked) == 2


def test_a_syn_with_a_new_cookie_is_a_new_flow_and_answers_carry_the_new_cookie() -> None:
    bench = Bench(Watcher)
    engine = bench.engine
    syn = build_tcp(A, B, 4000, 80, seq=1, flags=SYN)

    def receive(data: bytes) -> int:
        return engine.receive(data, 0, len(data), PEER, LOCAL, bench.now)

    assert receive(datagram(syn, 1)) == FORWARD
    assert receive(datagram(build_tcp(B, A, 80, 4000, seq=5, ack=2, flags=SYN | ACK), 1)) == FORWARD
    assert receive(datagram(build_tcp(A, B, 4000, 80, seq=2, ack=6, flags=ACK), 1)) == FORWARD
    again = build_tcp(A, B, 4000, 80, seq=7777, flags=SYN)
    assert receive(datagram(again, 2)) == FORWARD
    assert ended(bench) == ["replaced"]
    (flow,) = bench.flows
    assert flow.cookie == 2
    header = flow.header
    assert parse_geneve(header + syn, 0, len(header + syn)).cookie == 2


def test_packets_made_without_a_trigger_take_the_newest_encapsulation() -> None:
    class Late(FlowHandler["Rejects"]):
        def packet(self, packet: Packet) -> Outcome:
            return None

        def woken(self) -> Outcome:
            return Verdict.REJECT

    class Rejects(Plugin):
        def flow_opened(self, flow: Flow) -> Opening:
            handler = Late()
            handler.wake(5)
            return handler

    bench = Bench(Rejects)
    engine = bench.engine
    other = (61001).to_bytes(2, "big") + b"\x0a\x09\0\x0c"
    packets = [
        (build_tcp(A, B, 4000, 80, seq=1, flags=SYN), PEER, 1),
        (build_tcp(B, A, 80, 4000, seq=5, ack=2, flags=SYN | ACK), PEER, 1),
        (build_tcp(A, B, 4000, 80, seq=2, ack=6, flags=ACK), other, 9),
    ]
    for packet, peer, cookie in packets:
        data = datagram(packet, cookie)
        assert engine.receive(data, 0, len(data), peer, LOCAL, bench.now) == FORWARD
    engine.advance(bench.now + 6)
    assert [(peer, local) for peer, local, _ in engine.outbox] == [(other, LOCAL)] * 2
    assert {parse_geneve(d, 0, len(d)).cookie for _, _, d in engine.outbox} == {9}


def test_the_same_tuple_behind_two_endpoints_is_judged_apart() -> None:
    class ByZone(Plugin):
        def flow_opened(self, flow: Flow) -> Opening:
            return Verdict.BLOCK if self.zone == "prod" else None

    zones = {"prod": ZoneSettings(("vpce-00000000000000001",))}
    bench = Bench(ByZone, zones=zones)
    syn = build_tcp(A, B, 4000, 80, seq=1, flags=SYN)
    assert bench.send(syn, "vpce-00000000000000001") == []
    assert bench.send(syn, "vpce-00000000000000002") == [syn]
    assert sorted(f.zone for f in bench.flows) == ["default", "prod"]


@pytest.mark.parametrize("handled", [False, True])
def test_an_answered_udp_flow_is_not_given_up_for_others(handled: bool) -> None:
    class Look(FlowHandler[Any]):
        def packet(self, packet: Packet) -> Outcome:
            return None

    class Looks(Plugin):
        def flow_opened(self, flow: Flow) -> Opening:
            return Look() if handled else None

    bench = Bench(Looks, settings=EngineSettings(max_flows=1))
    dns = bench.udp("10.0.0.1", "10.0.0.2", 53)
    assert dns.client_sends(b"?")
    assert dns.server_sends(b"!")
    assert not bench.udp("10.0.0.1", "10.0.0.2", 53).client_sends(b"?")
    assert bench.engine.drops == {"table_full": 1}


def test_events_name_the_encapsulation() -> None:
    bench = Bench(Watcher)
    packet = build_udp(A, B, 5000, 53, payload=b"x")
    data = build_geneve(0xA1, 0xC0, attachment_id=77) + packet
    bench.engine.receive(data, 0, len(data), PEER, LOCAL, bench.now)
    (flow,) = bench.flows
    info = flow.info()
    assert (info.endpoint, info.cookie, info.attachment_id) == (
        "vpce-000000000000000a1",
        0xC0,
        77,
    )


def test_unknown_endpoints_can_be_refused() -> None:
    zones = {"prod": ZoneSettings(("vpce-00000000000000001",))}
    settings = EngineSettings(unknown_endpoint="drop")
    bench = Bench(Watcher, zones=zones, settings=settings)
    syn = build_tcp(A, B, 4000, 80, seq=1, flags=SYN)
    assert bench.send(syn, "vpce-00000000000000001") == [syn]
    for n in range(5000):
        assert bench.send(syn, f"vpce-{n + 2:017x}") == []
    assert bench.engine.drops["unknown_endpoint"] == 5000
    assert len(bench.engine.lifecycle._endpoints_logged) == 1024


def test_datagrams_from_elsewhere_are_dropped_first() -> None:
    bench = Bench(Watcher)
    from appliance_sdk.engine import Engine
    from appliance_sdk.plugin.manager import Pipeline

    engine = Engine(
        Pipeline.build([]),
        EngineSettings(origins=("10.9.0.0/24",)),
        now=0.0,
        emit=bench.events.append,
        log=lambda *a, **k: None,
    )
    data = datagram(build_tcp(A, B, 1, 2, flags=SYN))
    assert engine.receive(data, 0, len(data), PEER, LOCAL, 0.0) == FORWARD
    stranger = PEER[:2] + b"\x0a\x08\0\x01"
    assert engine.receive(data, 0, len(data), stranger, LOCAL, 0.0) == DROP
    assert engine.drops == {"origin": 1}
    assert engine.forwarded == 1


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (build_udp(A, A, 7, 7), "land"),
        (build_udp(A, b"\xe0\0\0\x01", 7, 8), "multicast"),
        (build_udp(A, b"\xff\xff\xff\xff", 7, 8), "multicast"),
        (build_udp(A6, b"\xff\x02" + bytes(14), 7, 8), "multicast"),
        (build_udp(A, B, 7, 8, payload=bytes(8473)), "too_long"),
    ],
)
def test_packets_that_no_vpc_carries_are_dropped(packet: bytes, reason: str) -> None:
    bench = Bench(Watcher)
    assert bench.send(packet) == []
    assert bench.engine.drops == {reason: 1}


def test_equal_ports_or_addresses_alone_are_fine() -> None:
    bench = Bench(Watcher)
    for packet in (build_udp(A, B, 7, 7), build_udp(A, A, 7, 8), build_udp(A6, B6, 7, 7)):
        assert bench.send(packet) == [packet]
    same = build_udp(A, B, 7, 7, payload=bytes(8472))
    assert bench.send(same) == [same]


@pytest.mark.parametrize("protocol", [4, 47, 50, 51, 132, 255])
def test_protocols_without_ports_are_flows_of_three(protocol: int) -> None:
    bench = Bench(Watcher)
    packet = build_ip(A, B, protocol, bytes(range(40)))
    if protocol == 51:
        packet = build_ip(A, B, protocol, bytes([59, 1, 0, 0]) + bytes(36))
    back = build_ip(B, A, protocol, packet[20:])
    assert bench.send(packet) == [packet]
    assert bench.send(back) == [back]
    (flow,) = bench.flows
    assert (flow.client_port, flow.server_port) == (0, 0)
    assert flow.to_client.packets == 1


def test_an_icmp_error_knows_the_flow_it_quotes() -> None:
    related: list[Any] = []

    class Icmp(FlowHandler["Relates"]):
        def packet(self, packet: Packet) -> Outcome:
            related.append((packet.icmp_type, packet.related))
            return None

    class Relates(Plugin):
        def flow_opened(self, flow: Flow) -> Opening:
            return Icmp() if flow.protocol == "icmp" else None

    bench = Bench(Relates)
    query = build_udp(A, B, 5000, 53, payload=b"query")
    bench.send(query)
    (flow,) = bench.flows
    router = b"\x0a\0\0\xfe"
    bench.send(build_icmp(router, A, 11, 0, b"\0\0\0\0" + query[:28]))
    bench.send(build_icmp(router, A, 11, 0, b"\0\0\0\0" + build_udp(A, B, 1, 2)[:28]))
    bench.send(build_icmp(router, A, 11, 0, b"\0\0\0\0\x45"))
    assert related == [(11, flow), (11, None), (11, None)]


def test_malformed_datagrams_are_counted_by_reason_and_reported_in_sum() -> None:
    bench = Bench(Watcher)
    engine = bench.engine
    good = datagram(build_tcp(A, B, 1, 2, flags=SYN))
    for data in (b"", good[:7], b"\x48" + good[1:], good[:44], good[:60]):
        assert engine.receive(data, 0, len(data), PEER, LOCAL, bench.now) == DROP
    assert engine.outbox == []
    assert sum(engine.drops.values()) == 5
    bench.advance(2)
    anomalies = [e for e in bench.events if isinstance(e, Anomaly)]
    assert sum(a.count for a in anomalies) == 5
    assert {a.reason for a in anomalies} == set(engine.drops)


def test_what_is_due_at_a_deadline_is_done_there() -> None:
    bench = Bench(Watcher)
    engine = bench.engine
    before = 1023.004
    assert before + 1 - before < 1  # floating point: a second later is not yet a second later
    for _ in range(2):
        assert engine.receive(b"", 0, 0, PEER, LOCAL, before) == DROP
        engine.advance(before)
    deadline = engine.next_deadline()
    assert deadline == before + 1
    engine.advance(deadline)
    assert engine.next_deadline() > deadline


def test_a_fragmented_datagram_is_one_flow_with_ports_and_is_judged_whole() -> None:
    seen: list[bytes] = []

    class Reads(FlowHandler["ReadsAll"]):
        def data(self, chunk: Chunk) -> Outcome:
            seen.append(chunk.data)
            return Verdict.DROP if b"evil" in chunk else None

    class ReadsAll(Plugin):
        def flow_opened(self, flow: Flow) -> Opening:
            assert flow.server_port == 53
            return Reads()

    for client, server in ((A, B), (A6, B6)):

        def packet_of(payload: bytes) -> bytes:
            return build_udp(client, server, 5000, 53, payload=payload)  # noqa: B023

        seen.clear()
        bench = Bench(ReadsAll)
        payload = bytes(range(256)) * 12
        fragments = fragment_packet(packet_of(payload), 1280)
        assert len(fragments) > 2
        assert [bench.send(f) for f in fragments] == [[f] for f in fragments]
        assert seen == [payload]
        assert len(bench.flows) == 1
        bad = fragment_packet(packet_of(b"x" * 2000 + b"evil" + b"x" * 1000), 1280)
        assert [bool(bench.send(f)) for f in bad][-1] is False
        late = fragment_packet(packet_of(payload), 1280)[1:]
        engine = Bench(ReadsAll)
        assert [engine.send(f) for f in late] == [[] for _ in late]


def test_stream_bytes_that_contradict_what_was_judged_are_dropped() -> None:
    class Reads(FlowHandler["ReadsAll"]):
        def data(self, chunk: Chunk) -> Outcome:
            return None

    class ReadsAll(Plugin):
        def flow_opened(self, flow: Flow) -> Opening:
            return Reads()

    bench = Bench(ReadsAll)
    bench.send(build_tcp(A, B, 4000, 80, seq=100, flags=SYN))
    bench.send(build_tcp(B, A, 80, 4000, seq=5, ack=101, flags=SYN | ACK))
    good = build_tcp(A, B, 4000, 80, seq=101, ack=6, flags=ACK, payload=b"harmless")
    evil = build_tcp(A, B, 4000, 80, seq=101, ack=6, flags=ACK, payload=b"harmfull")
    assert bench.send(good) == [good]
    assert bench.send(evil) == []
    assert bench.send(good) == [good]
    assert bench.engine.drops == {"stream_conflict": 1}


def test_every_opened_flow_is_closed_once() -> None:
    closed: list[Any] = []

    class Counts(Plugin):
        def flow_opened(self, flow: Flow) -> Opening:
            return None

        def flow_closed(self, flow: Flow, handler: Any) -> None:
            closed.append(flow.id)

    bench = Bench(Counts, settings=EngineSettings(max_flows=50))
    for n in range(300):
        bench.send(build_tcp(A, B, 1000 + n % 90, 80, seq=n * 1000, flags=SYN))
        if n % 7 == 0:
            bench.udp("10.0.0.1", "10.0.0.2", 53).client_sends(b"x")
        bench.advance(0.5)
    bench.close()
    assert len(closed) == len(set(closed)) == bench.engine.flows_opened
    assert bench.engine.flows_closed == bench.engine.flows_opened
    assert bench.flows == []


def test_the_direction_of_a_flow_met_in_its_middle() -> None:
    bench = Bench(Watcher)
    synack = build_tcp(B, A, 80, 4000, seq=5, ack=101, flags=SYN | ACK)
    bench.send(synack)
    guess = build_tcp(B, A, 443, 4001, seq=5, ack=101, flags=ACK, payload=b"x")
    bench.send(guess)
    flows = {f.client_port: f for f in bench.flows}
    assert (flows[4000].client_ip, flows[4000].midstream, flows[4000].direction_sure) == (
        A,
        True,
        True,
    )
    assert (flows[4001].client_ip, flows[4001].midstream, flows[4001].direction_sure) == (
        A,
        True,
        False,
    )


def test_nobody_turns_a_udp_flow_around_by_sending_from_a_known_port() -> None:
    bench = Bench(Watcher)
    bench.send(build_udp(B, A, 53, 4000, payload=b"unasked"))
    (flow,) = bench.flows
    assert flow.client_ip == B
    assert not flow.direction_sure


class Reads(FlowHandler[Any]):
    def data(self, chunk: Chunk) -> Outcome:
        return Verdict.DROP if b"evil" in chunk else None


class ReadsAll(Plugin):
    def flow_opened(self, flow: Flow) -> Opening:
        return Reads()


@pytest.mark.parametrize("wait", [0, 55])
@pytest.mark.parametrize(("client", "server"), [(A, B), (A6, B6)])
def test_fragments_of_a_dropped_datagram_cannot_be_completed_by_another(
    client: bytes, server: bytes, wait: float
) -> None:
    """The receiver holds the first ones still, and ignores those that come for the second time."""
    bench = Bench(ReadsAll)

    def cut(payload: bytes) -> list[bytes]:
        return fragment_packet(build_udp(client, server, 5000, 53, payload=payload), 1280)

    bad, good = cut(b"evil" + bytes(2000)), cut(b"good" + bytes(2000))
    assert [bool(bench.send(f)) for f in bad] == [True, False]
    bench.advance(wait)
    assert [bench.send(f) for f in good] == [[], []]
    bench.advance(61)
    assert [bench.send(f) for f in good] == [[f] for f in good]


@pytest.mark.parametrize(("client", "server"), [(A, B), (A6, B6)])
def test_a_handler_may_judge_a_packet_by_its_first_fragment(client: bytes, server: bytes) -> None:
    shown: list[int] = []

    class Looks(FlowHandler["LooksAtAll"]):
        fragments = True

        def packet(self, packet: Packet) -> Outcome:
            shown.append(len(packet.payload))
            return Verdict.DROP if packet.payload.startswith(b"evil") else None

    class LooksAtAll(Plugin):
        def flow_opened(self, flow: Flow) -> Opening:
            return Looks()

    bench = Bench(LooksAtAll)

    def cut(payload: bytes) -> list[bytes]:
        return fragment_packet(build_udp(client, server, 5000, 53, payload=payload), 1280)

    good = cut(bytes(3000))
    assert [bench.send(f) for f in good] == [[f] for f in good]
    assert shown[1:] == [3000]
    assert 1200 < shown[0] < 1280
    bench.advance(61)
    assert [bench.send(f) for f in cut(b"evil" + bytes(2996))] == [[], [], []]
    assert len(shown) == 3


def test_a_datagram_whose_flow_ended_before_its_last_fragment_is_dropped() -> None:
    bench = Bench(ReadsAll, settings=EngineSettings(max_flows=1))
    bench.send(build_tcp(A, B, 4000, 80, seq=1, flags=SYN))
    reset = build_tcp(A, B, 4000, 80, seq=2, flags=RST, payload=bytes(100))
    first, *rest = fragment_packet(reset, 60)
    assert bench.send(first) == [first]
    bench.send(build_tcp(A, B, 4001, 80, seq=1, flags=SYN))
    assert [bench.send(f) for f in rest] == [[] for _ in rest]
    bench.advance(400)
    assert ended(bench) == ["evicted", "idle"]
    assert bench.engine.flows_closed == bench.engine.flows_opened


def test_a_stray_packet_does_not_choose_who_is_the_client() -> None:
    class Refuses(Plugin):
        def flow_opened(self, flow: Flow) -> Opening:
            return Verdict.BLOCK if flow.server_port == 9999 else None

    bench = Bench(Refuses)
    stray = build_tcp(A, B, 22, 9999, seq=1, ack=1, flags=ACK)
    assert bench.send(stray) == [stray], "taken for an answer of an SSH server"
    assert bench.send(build_tcp(A, B, 22, 9999, seq=50, flags=SYN)) == []
    assert ended(bench) == ["replaced"]


def test_a_flow_that_is_over_or_decided_wakes_nobody() -> None:
    woken: list[Any] = []

    class Wakes(FlowHandler["Waking"]):
        def data(self, chunk: Chunk) -> Outcome:
            self.flow.set(Verdict.BLOCK)
            self.wake(5)
            return None

        def woken(self) -> Outcome:
            woken.append(self.flow)
            return None

    class Waking(Plugin):
        def flow_opened(self, flow: Flow) -> Opening:
            return Wakes()

        def flow_closed(self, flow: Flow, handler: FlowHandler[Any] | None) -> None:
            assert handler is not None
            handler.wake(5)

    bench = Bench(Waking)
    bench.tcp("10.0.0.1", "10.0.0.2", 80).client_sends(b"x")
    bench.tcp("10.0.0.1", "10.0.0.2", 80).reset()
    bench.advance(1000)
    assert len(ended(bench)) == 2
    assert woken == []
