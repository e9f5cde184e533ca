"""TCP between two hosts over a wire, and against a peer written by hand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance_sdk.harness.hosts import Banner, Echo, Sink, TcpConnection, TcpSettings, TcpState
from appliance_sdk.wire import build_unreachable, parse_packet
from appliance_sdk.wire.packet import ACK, FIN, PSH, RST, SYN

if TYPE_CHECKING:
    from tests.harness.hosts.conftest import Network, Peer

PATIENT = TcpSettings(syn_retries=40, data_retries=40, max_rto_s=4.0)
versions = pytest.mark.parametrize("address", ["10.0.0.2", "fd00::2"])


class Recorder(Sink):
    """Writes down what an app is told."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def opened(self, conn: TcpConnection, now: float) -> None:
        self.calls.append("opened")

    def data(self, conn: TcpConnection, data: bytes, now: float) -> None:
        self.calls.append(data.decode() or "eof")
        super().data(conn, data, now)

    def ended(self, conn: TcpConnection, now: float) -> None:
        self.calls.append(conn.ended)


def open_to(peer: type[Peer], **options: Any) -> tuple[Peer, TcpConnection]:
    p = peer(tcp=options.pop("tcp", None))
    conn = p.host.connect("10.0.0.2", 80, 0.0)
    p.answer_syn(**options)
    assert conn.state == TcpState.ESTABLISHED
    return p, conn


@versions
def test_opens_transfers_and_closes_in_as_many_packets_as_it_takes(
    network: type[Network], address: str
) -> None:
    net = network()
    app = Recorder()
    listener = net.server.listen(80, lambda: app)
    conn = net.client.connect(address, 80, net.now)
    net.run(until=0.1)
    assert {conn.state, listener.connections[0].state} == {TcpState.ESTABLISHED}
    assert conn.send(b"hello")
    conn.close()
    net.run(until=0.2)
    assert {conn.state} == {TcpState.TIME_WAIT}
    assert conn.ended == "closed"
    assert conn.acked == 5
    net.run()
    assert {conn.state} == {TcpState.CLOSED}
    assert net.client.connections == net.server.connections == ()
    assert listener.connections[0].received == b"hello"
    assert app.calls == ["opened", "hello", "eof", "closed"]
    # SYN, SYN+ACK, ACK; data with FIN; FIN with the ACK of both; ACK
    assert len(net.sent) == 6
    assert conn.retransmits == 0
    assert net.client.next_deadline() == net.server.next_deadline() == math.inf


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    up=st.binary(max_size=30_000),
    down=st.binary(max_size=30_000),
    loss=st.sampled_from([0.0, 0.05, 0.25]),
    double=st.sampled_from([0.0, 0.3]),
    jitter_s=st.sampled_from([0.0, 0.2, 3.0]),
    address=st.sampled_from(["10.0.0.2", "fd00::2"]),
    window=st.sampled_from([1, 1000, 65535]),
)
def test_whatever_the_wire_does_both_streams_arrive_and_both_ends_end(
    network: type[Network],
    seed: int,
    up: bytes,
    down: bytes,
    loss: float,
    double: float,
    jitter_s: float,
    address: str,
    window: int,
) -> None:
    if window == 1:
        up, down = up[:50], down[:50]
    tcp = TcpSettings(
        syn_retries=40, data_retries=40, max_rto_s=4.0, window=window, time_wait_s=300.0
    )
    net = network(seed=seed, loss=loss, double=double, jitter_s=jitter_s, tcp=tcp)

    class Answer(Sink):
        def opened(self, conn: TcpConnection, now: float) -> None:
            conn.send(down)

    listener = net.server.listen(80, Answer)
    conn = net.client.connect(address, 80, net.now)
    conn.send(up)
    conn.close()
    net.run(until=9_000.0, most=3_000)
    theirs = listener.connections[0]
    assert (theirs.received, conn.received) == (up, down)
    assert (conn.ended, theirs.ended) == ("closed", "closed")
    assert (conn.acked, theirs.acked) == (len(up), len(down))
    assert net.client.connections == net.server.connections == ()
    assert net.client.dropped.total() == net.server.dropped.total() == 0


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    steps=st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from(["send", "close", "abort", "run"])),
        max_size=12,
    ),
    loss=st.sampled_from([0.0, 0.2]),
)
def test_whatever_the_two_ends_do_it_ends_once_and_within_bounds(
    network: type[Network], seed: int, steps: list[tuple[int, str]], loss: float
) -> None:
    net = network(seed=seed, loss=loss, jitter_s=0.5, tcp=PATIENT)
    app = Recorder()
    listener = net.server.listen(80, lambda: app)
    conn = net.client.connect("10.0.0.2", 80, net.now)
    for side, step in steps:
        ends = [conn, *list(listener.connections)[:1]]
        end = ends[min(side, len(ends) - 1)]
        if step == "run":
            net.run(until=net.now + 0.3)
        elif step == "send":
            end.send(b"x" * 3000)
        else:
            getattr(end, step)()
    for end in (conn, *listener.connections):
        end.close()
    net.run(until=9_000.0, most=2_000)
    for end in listener.connections:
        end.close()
    net.run(until=18_000.0, most=2_000)
    assert conn.state == TcpState.CLOSED
    assert conn.ended
    assert net.client.connections == net.server.connections == ()
    assert sum(call in ("closed", "reset", "timeout") for call in app.calls) == len(
        listener.connections
    )


def test_half_closed_connection_still_carries_the_other_way(network: type[Network]) -> None:
    net = network()
    listener = net.server.listen(80, lambda: Banner("220 ready"))
    conn = net.client.connect("10.0.0.2", 80, net.now)
    theirs_later = []

    class Late(Sink):
        def data(self, conn: TcpConnection, data: bytes, now: float) -> None:
            theirs_later.append(conn)

    listener.app_factory = Late
    conn.send(b"question")
    conn.close()
    net.run(until=1.0)
    assert conn.state == TcpState.FIN_WAIT_2
    assert theirs_later[0].state == TcpState.CLOSE_WAIT
    theirs_later[0].send(b"answer " * 1000)
    theirs_later[0].close()
    net.run()
    assert conn.received == b"answer " * 1000
    assert conn.ended == theirs_later[0].ended == "closed"


def test_both_close_at_once(network: type[Network]) -> None:
    net = network()
    listener = net.server.listen(80, Echo)
    conn = net.client.connect("10.0.0.2", 80, net.now)
    net.run(until=0.1)
    theirs = listener.connections[0]
    conn.close()
    theirs.close()
    net.run(until=0.115)
    assert {conn.state, theirs.state} == {TcpState.CLOSING}
    net.run(until=0.2)
    assert {conn.state, theirs.state} == {TcpState.TIME_WAIT}
    net.run()
    assert conn.ended == theirs.ended == "closed"


def test_both_open_at_once(network: type[Network]) -> None:
    net = network()
    ends = [
        net.client.connect("10.0.0.2", 200, net.now, source_port=100),
        net.server.connect("10.0.0.1", 100, net.now, source_port=200),
    ]
    net.run(until=1.0)
    assert [end.state for end in ends] == [TcpState.ESTABLISHED] * 2
    assert len(net.sent) <= 8


def test_refused_reset_and_unanswered_openings(network: type[Network]) -> None:
    net = network()
    refused = net.client.connect("10.0.0.2", 81, net.now)
    net.run(until=0.5)
    assert (refused.ended, refused.refused) == ("reset", True)
    net.cut = True
    silent = net.client.connect("10.0.0.2", 80, net.now)
    net.run()
    assert (silent.ended, silent.refused, silent.retransmits) == ("timeout", False, 5)
    assert net.now == pytest.approx(0.5 + 63, abs=0.1)  # 1 + 2 + 4 + 8 + 16 + 32


def test_data_without_answer_ends_in_time(network: type[Network]) -> None:
    net = network(tcp=TcpSettings(data_retries=3))
    net.server.listen(80, Sink)
    conn = net.client.connect("10.0.0.2", 80, net.now)
    net.run(until=1.0)
    net.cut = True
    conn.send(b"x")
    net.run()
    assert (conn.ended, conn.retransmits) == ("timeout", 3)
    assert net.now == pytest.approx(16, abs=0.1)


def test_keep_alive_finds_a_peer_that_is_gone(network: type[Network]) -> None:
    net = network(tcp=TcpSettings(keep_alive_s=10.0))
    net.server.listen(80, Sink)
    conn = net.client.connect("10.0.0.2", 80, net.now)
    net.run(until=100.0)
    assert conn.state == TcpState.ESTABLISHED
    net.cut = True
    net.run()
    assert conn.ended == "timeout"
    assert net.now < 150


def test_abort_tells_the_peer(network: type[Network]) -> None:
    net = network()
    listener = net.server.listen(80, Sink)
    conn = net.client.connect("10.0.0.2", 80, net.now)
    net.run(until=1.0)
    conn.abort()
    assert net.client.next_deadline() <= 1.0
    net.run()
    assert conn.ended == listener.connections[0].ended == "reset"
    assert not conn.send(b"x")


def test_a_shut_window_stops_the_peer_until_it_opens(network: type[Network]) -> None:
    net = network()
    listener = net.server.listen(80, Sink)
    conn = net.client.connect("10.0.0.2", 80, net.now)
    net.run(until=1.0)
    theirs = listener.connections[0]
    theirs.window = 0
    net.run(until=2.0)
    conn.send(b"x" * 5000)
    net.run(until=400.0, most=40)  # longer than data_retries alone would last
    assert theirs.received == b""
    assert conn.state == TcpState.ESTABLISHED
    theirs.window = 3000
    net.run(until=402.0)
    assert theirs.received == b"x" * 5000


def test_a_lost_window_update_is_made_up_for_by_probes(network: type[Network]) -> None:
    net = network()
    listener = net.server.listen(80, Sink)
    conn = net.client.connect("10.0.0.2", 80, net.now)
    net.run(until=1.0)
    theirs = listener.connections[0]
    theirs.window = 0
    net.run(until=2.0)
    conn.send(b"x" * 500)
    net.run(until=10.0)
    net.cut = True
    theirs.window = 1000
    net.run(until=11.0)
    net.cut = False
    net.run(until=80.0)
    assert theirs.received == b"x" * 500


def test_the_peers_window_and_mss_are_kept(peer: type[Peer]) -> None:
    p, conn = open_to(peer, window=1000, options=b"\x02\x04\x01\x90")  # 400
    conn.send(b"x" * 3000)
    p.host.advance(0.0)
    assert [len(data) for data in p.payloads()] == [400, 400, 200]
    p.ack += 1000
    sent = p.say(window=100)
    assert [h.end - h.payload for h in sent] == [100]


@pytest.mark.parametrize(
    ("options", "mss"),
    [(b"", 536), (b"\x02\x04\x00\x01", 88), (b"\x02\x00", 536), (b"\x01\x01\x02\x04\x02\x58", 600)],
)
def test_mss_that_is_missing_tiny_or_broken(peer: type[Peer], options: bytes, mss: int) -> None:
    p, conn = open_to(peer, options=options)
    conn.send(b"x" * 1500)
    p.host.advance(0.0)
    assert len(p.payloads()[0]) == mss


def test_what_is_ahead_of_a_gap_waits_within_bounds(peer: type[Peer]) -> None:
    p, conn = open_to(peer, tcp=TcpSettings(max_out_of_order=3))
    for offset in (5, 3, 7, 1, 9):
        (answer,) = p.say(payload=b"%d" % offset, seq=p.seq + offset)
        assert answer.ack == p.seq
    p.say(payload=b"0", seq=p.seq)
    assert conn.received == b"0"  # 1 came when the queue was full
    p.say(payload=b"12345678", seq=p.seq + 1)
    assert conn.received == b"012345678"


def test_overlapping_segments_and_data_behind_the_fin(peer: type[Peer]) -> None:
    p, conn = open_to(peer)
    p.say(ACK | FIN, b"efg", seq=p.seq + 4)
    p.say(payload=b"fghij", seq=p.seq + 5)
    p.say(payload=b"cd", seq=p.seq + 2)
    assert not conn.peer_closed
    (answer,) = p.say(payload=b"abcd", seq=p.seq)
    assert conn.received == b"abcdefg"
    assert conn.peer_closed
    assert answer.ack == p.seq + 8
    assert conn.state == TcpState.CLOSE_WAIT


def test_a_reset_counts_only_where_the_next_byte_would(peer: type[Peer]) -> None:
    p, conn = open_to(peer)
    assert p.say(RST, seq=p.seq - 1) == []
    assert p.say(RST, seq=p.seq + 70_000) == []
    (challenge,) = p.say(RST, seq=p.seq + 1)
    assert (challenge.flags, challenge.ack) == (ACK, p.seq)
    assert p.say(SYN, seq=p.seq + 1) == []  # one challenge in half a second is enough
    assert conn.state == TcpState.ESTABLISHED
    assert p.say(RST) == []
    assert conn.ended == "reset"
    assert not conn.refused


def test_wrong_acknowledgements_are_not_believed(peer: type[Peer]) -> None:
    p, conn = open_to(peer)
    assert len(p.say(payload=b"x", ack=p.ack + 5)) == 1
    assert p.say(payload=b"x", ack=p.ack - 70_000, now=0.1) == []
    assert conn.received == b""
    assert p.say(payload=b"x", flags=0) == []
    assert conn.received == b""


def test_a_wrong_answer_to_the_syn_is_reset(peer: type[Peer]) -> None:
    p = peer()
    conn = p.host.connect("10.0.0.2", 80, 0.0)
    (syn,) = p.take()
    p.host_port = syn.source_port
    (reset,) = p.say(SYN | ACK, ack=syn.seq)
    assert (reset.flags, reset.seq) == (RST, syn.seq)
    assert p.say(RST | ACK, ack=syn.seq + 9) == []
    assert p.say(RST) == []
    assert conn.state == TcpState.SYN_SENT
    p.say(RST | ACK, ack=syn.seq + 1)
    assert (conn.ended, conn.refused) == ("reset", True)


def test_three_repeated_acks_bring_the_lost_segment_once(peer: type[Peer]) -> None:
    p, conn = open_to(peer)
    conn.send(b"a" * 1400 + b"b" * 1400 + b"c" * 2800)
    p.host.advance(0.0)
    assert len(p.take()) == 4
    assert [p.say() for _ in range(2)] == [[], []]
    (again,) = p.say()
    assert again.seq == p.ack
    assert [p.say() for _ in range(9)] == [[]] * 9
    p.ack += 1400
    (hole,) = p.say()  # a partial acknowledgement: the next one is lost too
    assert hole.seq == p.ack
    assert conn.retransmits == 2


def test_sequence_numbers_wrap(peer: type[Peer]) -> None:
    p = peer(tcp=TcpSettings(window=65535))
    conn = p.host.connect("10.0.0.2", 80, 0.0)
    p.seq = 0xFFFFFFFE
    p.answer_syn()
    p.seq &= 0xFFFFFFFF
    sent = b"0123456789" * 20
    for at in range(0, 200, 10):
        p.say(PSH | ACK, sent[at : at + 10], seq=(p.seq + at) & 0xFFFFFFFF)
    assert conn.received == sent


def test_icmp_errors_end_an_opening_and_nothing_else(network: type[Network]) -> None:
    net = network()
    for opened in (False, True):
        net.server.listen(80 + opened, Sink)
        conn = net.client.connect("10.0.0.2", 80 + opened, net.now)
        if opened:
            net.run(until=net.now + 1)
            conn.send(b"x")
            net.client.advance(net.now)
        packet = net.client.outbox[-1]
        error = build_unreachable(packet, 0, parse_packet(packet, 0, len(packet)))
        assert error
        net.client.receive(error, net.now)
        assert conn.icmp_error == (3, 13)
        assert (conn.ended, conn.refused) == (("", False) if opened else ("unreachable", True))
        net.run(until=net.now + 1)


def test_forged_icmp_errors_are_not_believed(network: type[Network]) -> None:
    net = network()
    conn = net.client.connect("10.0.0.2", 80, net.now)
    syn = bytearray(net.client.outbox[-1])
    syn[24] ^= 0x40  # another sequence number than any that is under way
    error = build_unreachable(syn, 0, parse_packet(syn, 0, len(syn)))
    assert error
    net.client.receive(error, net.now)
    assert (conn.ended, conn.icmp_error) == ("", None)
    assert net.client.dropped == {"icmp_unexpected": 1}


def test_a_syn_flood_costs_what_is_allowed(network: type[Network]) -> None:
    net = network()
    net.server.listen(80, Sink)
    net.server.max_connections = 20
    net.client.tcp = TcpSettings(syn_retries=0)
    for _ in range(50):
        net.client.connect("10.0.0.2", 80, net.now)
    for packet in net.client.outbox:
        net.server.receive(packet, 0.0)
    net.client.outbox.clear()
    assert len(net.server.connections) == 20
    assert net.server.dropped["no_room"] == 30
    net.cut = True
    net.run()
    assert net.server.connections == ()


def test_a_new_syn_takes_the_place_of_time_wait(network: type[Network]) -> None:
    net = network(tcp=TcpSettings(time_wait_s=1000.0))

    class Hasty(Sink):
        def opened(self, conn: TcpConnection, now: float) -> None:
            conn.close()

    listener = net.server.listen(80, Hasty)
    for _ in range(5):
        conn = net.client.connect("10.0.0.2", 80, net.now, source_port=5000)
        net.run(until=net.now + 3)  # a lower first number costs the retransmission of the SYN
        conn.close()
        net.run(until=net.now + 10)
        assert conn.ended == "closed"
    assert len(net.server.connections) == 1
    assert len(listener.connections) == 5


def test_the_send_buffer_is_bounded(network: type[Network]) -> None:
    net = network(tcp=TcpSettings(send_buffer_bytes=1000))
    conn = net.client.connect("10.0.0.2", 80, net.now)
    assert conn.send(b"x" * 1000)
    assert not conn.send(b"x")
    conn.close()
    assert not conn.send(b"")


@pytest.mark.parametrize(
    "wrong",
    [
        {"mss": 1},
        {"mss": 70_000},
        {"window": 65536},
        {"window": -1},
        {"rto_s": 0.0},
        {"rto_s": 90.0},
        {"max_rto_s": math.inf},
        {"time_wait_s": -1.0},
        {"syn_retries": -1},
        {"send_buffer_bytes": 0},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"use|takes"):
        TcpSettings(**wrong)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 0x3F),
            st.integers(-70_000, 70_000),
            st.integers(-70_000, 70_000),
            st.sampled_from([0, 1, 65535]),
            st.binary(max_size=5),
            st.binary(max_size=12),
        ),
        max_size=30,
    )
)
@settings(deadline=None)
def test_no_segment_makes_it_raise_or_talk_much(
    peer: type[Peer], script: list[tuple[int, int, int, int, bytes, bytes]]
) -> None:
    p, conn = open_to(peer)
    conn.send(b"hello" * 100)
    conn.close()
    for flags, seq, ack, window, payload, options in script:
        sent = p.say(
            flags,
            payload,
            seq=(p.seq + seq) & 0xFFFFFFFF,
            ack=(p.ack + ack) & 0xFFFFFFFF,
            window=window,
            options=options,
        )
        assert len(sent) <= 4
    p.host.advance(1e6)
