"""TCP transcripts, as a bystander reads them."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from appliance_sdk.flow.tcp import TcpState, TcpTracker
from appliance_sdk.wire.packet import ACK, FIN, PSH, RST, SYN

C, S = True, False  # from the client (to the server), from the server


class Segment(NamedTuple):
    """One forwarded segment."""

    to_server: bool
    flags: int
    seq: int
    ack: int = 0
    length: int = 0


def play(*segments: Segment, midstream: bool = False) -> TcpTracker:
    """A tracker that was told of these segments."""
    tracker = TcpTracker(midstream)
    for s in segments:
        tracker.advance(s.to_server, s.flags, s.seq & 0xFFFFFFFF, s.ack & 0xFFFFFFFF, s.length)
    return tracker


def handshake(client: int = 100, server: int = 500) -> list[Segment]:
    """SYN, SYN+ACK, ACK."""
    return [
        Segment(C, SYN, client),
        Segment(S, SYN | ACK, server, client + 1),
        Segment(C, ACK, client + 1, server + 1),
    ]


def test_a_handshake_step_by_step() -> None:
    steps = handshake()
    states = [play(*steps[:n]).state for n in range(4)]
    assert states == [
        TcpState.NEW,
        TcpState.SYN_SENT,
        TcpState.SYN_RECEIVED,
        TcpState.ESTABLISHED,
    ]
    tracker = play(*steps)
    assert (tracker.next_seq(C), tracker.next_seq(S)) == (101, 501)
    assert (tracker.acked(C), tracker.acked(S)) == (101, 501)
    assert tracker.opening_seq == 100


def test_equal_numbers_are_one_object_after_the_handshake() -> None:
    tracker = play(*handshake(0x10000000, 0x20000000))
    assert tracker._acked_s is tracker._next_s
    assert tracker._acked_c is tracker._next_c


def test_a_syn_or_a_scan_alone_is_half_open() -> None:
    assert play(Segment(C, SYN, 100)).half_open
    assert play(Segment(C, SYN, 100), Segment(C, SYN, 100)).half_open
    assert play(Segment(C, SYN, 100), Segment(C, ACK, 101, 501)).half_open


def test_a_simultaneous_open_is_established_when_both_have_acknowledged() -> None:
    tracker = play(
        Segment(C, SYN, 100),
        Segment(S, SYN, 500),
        Segment(C, SYN | ACK, 100, 501),
        Segment(S, SYN | ACK, 500, 101),
        Segment(C, ACK, 101, 501),
    )
    assert tracker.established


def test_numbers_follow_the_highest_byte_and_wrap_around() -> None:
    start = 0xFFFFFFF0
    tracker = play(
        *handshake(client=start),
        Segment(C, ACK | PSH, start + 1, 501, 100),
        Segment(C, ACK, start + 1, 501, 40),
        Segment(S, ACK, 501, start + 101),
    )
    assert tracker.next_seq(C) == (start + 101) & 0xFFFFFFFF
    assert tracker.acked(C) == (start + 101) & 0xFFFFFFFF


def test_closed_when_both_fins_are_acknowledged_and_not_before() -> None:
    steps = [
        *handshake(),
        Segment(C, FIN | ACK, 101, 501),
        Segment(S, ACK, 501, 102),
        Segment(S, ACK | PSH, 501, 102, 10),  # half closed: the server still sends
        Segment(C, ACK, 102, 511),
        Segment(S, FIN | ACK, 511, 102),
        Segment(C, ACK, 102, 512),
    ]
    assert [play(*steps[:n]).closed for n in (4, 5, 7, 8, 9)] == [False] * 4 + [True]
    assert play(*steps).end_reason == "fin"
    assert play(*steps[:4]).state == TcpState.CLOSING


def test_fins_that_cross() -> None:
    tracker = play(
        *handshake(),
        Segment(C, FIN | ACK, 101, 501),
        Segment(S, FIN | ACK, 501, 101),
        Segment(C, ACK, 102, 502),
        Segment(S, ACK, 502, 102),
    )
    assert tracker.closed


@pytest.mark.parametrize(
    ("reset", "believed"),
    [
        (Segment(C, RST, 101), True),
        (Segment(C, RST | ACK, 101, 501), True),
        (Segment(S, RST, 501), True),
        (Segment(C, RST, 102), False),
        (Segment(C, RST, 100), False),
        (Segment(S, RST, 501 + 60000), False),
        (Segment(S, RST, 0), False),
    ],
)
def test_a_reset_counts_only_with_the_number_that_is_expected(
    reset: Segment, believed: bool
) -> None:
    tracker = play(*handshake(), reset)
    assert tracker.closed is believed
    assert tracker.end_reason == ("rst" if believed else "")


def test_a_reset_between_what_is_acknowledged_and_what_is_on_its_way() -> None:
    sent = [*handshake(), Segment(C, ACK, 101, 501, 1000)]
    assert play(*sent, Segment(C, RST, 600)).closed
    assert play(*sent, Segment(C, RST, 1101)).closed
    assert not play(*sent, Segment(C, RST, 1102)).closed


def test_a_refused_connection() -> None:
    syn = Segment(C, SYN, 100)
    assert play(syn, Segment(S, RST | ACK, 0, 101)).closed
    assert not play(syn, Segment(S, RST | ACK, 0, 999)).closed
    assert not play(syn, Segment(S, RST, 0)).closed


def test_met_in_the_middle_on_either_side() -> None:
    for first in (C, S):
        tracker = play(Segment(first, ACK | PSH, 1000, 2000, 10), midstream=True)
        assert tracker.established
        assert tracker.next_seq(first) == 1010
        assert tracker.known(not first)
        assert tracker.next_seq(not first) == 2000
    assert not TcpTracker(True).known(C)
    assert TcpTracker(True).acked(C) is None


def test_which_syn_begins_another_connection() -> None:
    tracker = play(*handshake())
    assert not tracker.starts_new_connection(SYN, 100)
    assert tracker.starts_new_connection(SYN, 101)
    for flags in (SYN | ACK, SYN | RST, SYN | FIN, ACK, FIN):
        assert not tracker.starts_new_connection(flags, 101)


def test_a_syn_on_a_live_connection_changes_nothing() -> None:
    tracker = play(*handshake(), Segment(C, SYN, 9999), Segment(S, SYN | ACK, 7777, 1))
    assert tracker.state == TcpState.ESTABLISHED
    assert (tracker.next_seq(C), tracker.next_seq(S)) == (101, 501)


def test_a_keep_alive_and_an_old_segment_move_nothing() -> None:
    tracker = play(
        *handshake(),
        Segment(C, ACK, 101, 501, 50),
        Segment(S, ACK, 501, 151),
        Segment(C, ACK, 150, 501, 1),
        Segment(S, ACK, 501, 120),
    )
    assert tracker.next_seq(C) == 151
    assert tracker.acked(C) == 151


def test_a_segment_from_far_outside_moves_nothing() -> None:
    tracker = play(*handshake(), Segment(C, ACK, 101 + (1 << 30), 501, 10))
    assert tracker.next_seq(C) == 101
