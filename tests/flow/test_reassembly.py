"""One direction of a stream: every byte once, in order, and never another one."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance_sdk.flow.reassembly import Budget, Status, StreamBuffer, StreamLimits

LIMITS = StreamLimits()


def buffer(start: int = 1000, **options: object) -> tuple[StreamBuffer, Budget]:
    budget = Budget(1 << 20)
    return StreamBuffer(start, LIMITS, budget, **options), budget  # type: ignore[arg-type]


streams = st.binary(min_size=1, max_size=400)
starts = st.sampled_from([0, 1, 1000, 0x7FFFFFF0, 0xFFFFFF00, 0xFFFFFFFF])


@st.composite
def cuttings(draw: st.DrawFn) -> tuple[bytes, list[tuple[int, int]]]:
    """A stream, and pieces that cover it in any order, overlapping and repeated as they like."""
    stream = draw(streams)
    size = len(stream)
    cuts = sorted({0, size, *draw(st.lists(st.integers(0, size), max_size=12))})
    pieces = list(itertools.pairwise(cuts))
    extra = draw(st.lists(st.tuples(st.integers(0, size), st.integers(0, size)), max_size=6))
    pieces += [(min(a, b), max(a, b)) for a, b in extra]
    return stream, draw(st.permutations(pieces))


@given(cuttings(), starts, st.integers(0, 40), st.booleans())
def test_in_any_order_the_stream_comes_out(
    cutting: tuple[bytes, list[tuple[int, int]]], start: int, lookback: int, acks: bool
) -> None:
    stream, pieces = cutting
    one, budget = buffer(start, lookback=lookback)
    shown = b""
    for low, high in pieces:
        push = one.push((start + low) & 0xFFFFFFFF, stream[low:high])
        assert push.status in (Status.DELIVER, Status.COPIED, Status.REPEAT)
        if push.fresh:
            assert push.offset == len(shown)
            assert push.gap == 0
            assert one.lookback(lookback) == shown[max(0, len(shown) - lookback) :]
        shown += push.fresh
        if acks:
            assert one.acknowledge((start + len(shown)) & 0xFFFFFFFF) == 0
    assert shown == stream
    one.close()
    assert budget.used == 0


@given(cuttings(), starts, st.data())
@settings(max_examples=300)
def test_no_byte_is_ever_shown_or_let_through_that_differs(
    cutting: tuple[bytes, list[tuple[int, int]]], start: int, data: st.DataObject
) -> None:
    """A liar sends some pieces with other bytes: the first version of each byte is what counts."""
    stream, pieces = cutting
    one, budget = buffer(start)
    first: dict[int, int] = {}
    shown = b""
    for low, high in pieces:
        piece = bytearray(stream[low:high])
        if piece and data.draw(st.booleans()):
            piece[data.draw(st.integers(0, len(piece) - 1))] ^= 0x55
        push = one.push((start + low) & 0xFFFFFFFF, bytes(piece))
        differs = any(first.get(low + i, byte) != byte for i, byte in enumerate(piece))
        assert (push.status is Status.CONFLICT) is differs
        if push.status is not Status.CONFLICT:
            first.update({low + i: byte for i, byte in enumerate(piece)})
        shown += push.fresh
    assert shown == bytes(first[i] for i in range(len(shown)))
    one.close()
    assert budget.used == 0


@given(
    st.lists(
        st.tuples(st.sampled_from("pat"), st.integers(-50, 300), st.binary(max_size=60)),
        max_size=40,
    ),
    st.booleans(),
)
def test_whatever_comes_memory_is_bounded_and_accounted_for(
    steps: list[tuple[str, int, bytes]], ordered: bool
) -> None:
    budget = Budget(400)
    limits = StreamLimits(pending_bytes=100, pending_segments=4, retained_bytes=100)
    one = StreamBuffer(0, limits, budget, ordered=ordered, lookback=10)
    for what, at, payload in steps:
        if what == "p":
            one.push(at & 0xFFFFFFFF, payload)
        elif what == "a":
            one.acknowledge(at & 0xFFFFFFFF)
        else:
            one.take_pending()
        assert 0 <= budget.used <= 400
        copied = one.copies.pieces if one.copies is not None else []
        held = len(one._kept) + sum(len(data) for _, data in copied)
        assert budget.used == held
    one.close()
    assert budget.used == 0


def test_what_the_receiver_has_and_we_never_saw_is_a_gap() -> None:
    one, _ = buffer(0)
    assert one.push(0, b"abc").fresh == b"abc"
    assert one.push(10, b"klm").status is Status.COPIED
    assert one.acknowledge(13) == 7
    push = one.take_pending()
    assert (push.fresh, push.offset, push.gap) == (b"klm", 10, 7)
    assert one.push(3, b"too late").status is Status.CONFLICT, "nobody has judged these"
    assert one.push(13, b"n").offset == 13


def test_bytes_that_only_the_receiver_claims_to_have_are_shown_if_they_come() -> None:
    one, _ = buffer(0)
    assert one.push(0, b"abc").fresh == b"abc"
    assert one.acknowledge(1000) == 0
    assert one.push(3, b"def") == (Status.DELIVER, b"def", 3, 0, 0)
    assert one.push(10, b"klm") == (Status.DELIVER, b"klm", 10, 0, 4)
    assert one.push(6, b"ghij").status is Status.CONFLICT


def test_no_gap_is_forgotten_however_many_there_are() -> None:
    one, _ = buffer(0)
    one.acknowledge(1000)
    for at in range(2, 200, 4):
        assert one.push(at, b"xx").gap == 2
    assert all(one.push(at, b"yy").status is Status.CONFLICT for at in range(0, 200, 4))


def test_one_acknowledgment_can_cover_two_holes() -> None:
    one, _ = buffer(0)
    one.push(2, b"c")
    one.push(5, b"f")
    assert one.acknowledge(6) == 2
    assert one.take_pending().fresh == b"c"
    assert one.acknowledge(6) == 2
    assert one.take_pending().fresh == b"f"
    assert one.acknowledge(6) == 0


def test_nothing_lies_before_the_first_byte_of_a_connection() -> None:
    one, _ = buffer(1000, begun=True)
    assert one.push(900, b"before").status is Status.CONFLICT
    assert one.push(1010, b"beyond").status is Status.OUT_OF_ORDER
    assert one.acknowledge(1000) == 0
    assert one.push(999, b"?").status is Status.REPEAT, "a keep-alive"
    assert one.push(1010, b"beyond").status is Status.COPIED


def test_edited_bytes_are_remembered_even_when_there_is_no_room() -> None:
    budget = Budget(8)
    one = StreamBuffer(0, LIMITS, budget, ordered=True)
    assert one.push(0, b"12345678").fresh == b"12345678"
    one.edited(0, b"********")
    assert one.push(0, b"12345678").status is Status.REPEAT
    assert one.replacement(0, b"12345678") == b"********"
    one.close()
    assert budget.used == 0


def test_two_holes_are_two_gaps() -> None:
    one, _ = buffer(0)
    one.push(2, b"c")
    one.push(5, b"f")
    assert one.acknowledge(6) == 2
    assert one.take_pending().fresh == b"c"
    assert one.acknowledge(7) == 2
    assert one.take_pending().fresh == b"f"


def test_an_acknowledgment_beyond_any_window_is_not_believed() -> None:
    one, _ = buffer(0)
    one.push(0, b"abc")
    assert one.acknowledge(3 + (1 << 30) + 1) == 0
    assert one.push(3, b"d").fresh == b"d"


def test_unacknowledged_bytes_beyond_the_limit_wait_where_acknowledgments_are_seen() -> None:
    limits = StreamLimits(retained_bytes=10)
    one = StreamBuffer(0, limits, Budget(1000))
    one.push(0, b"12345")
    one.acknowledge(2)
    assert one.push(5, b"67890").status is Status.DELIVER
    assert one.push(10, b"abcde").status is Status.FULL
    one.acknowledge(10)
    assert one.push(10, b"abcde").status is Status.DELIVER


def test_where_no_acknowledgment_comes_by_the_oldest_are_forgotten() -> None:
    limits = StreamLimits(retained_bytes=10)
    one = StreamBuffer(0, limits, Budget(1000))
    for at in range(0, 100, 5):
        assert one.push(at, b"12345").status is Status.DELIVER
    assert len(one._kept) <= 20


def test_an_exhausted_budget_is_full() -> None:
    budget = Budget(4)
    one = StreamBuffer(0, LIMITS, budget)
    assert one.push(0, b"12345").status is Status.FULL
    assert one.push(9, b"12345").status is Status.FULL
    assert budget.used == 0


def test_a_gap_is_not_forgotten_while_there_is_no_room_for_what_follows_it() -> None:
    one, budget = buffer()
    one.push(1000, b"a")
    one.acknowledge(1005)
    budget.total = 0
    assert one.push(1005, b"f").status is Status.FULL
    budget.total += 1
    assert one.push(1005, b"f") == (Status.DELIVER, b"f", 5, 0, 4)


def test_an_ordered_stream_refuses_what_comes_early() -> None:
    one, _ = buffer(0, ordered=True)
    assert one.push(3, b"def").status is Status.OUT_OF_ORDER
    assert one.push(0, b"abc").fresh == b"abc"
    assert one.push(3, b"def").fresh == b"def"


def test_what_was_edited_is_sent_again_as_it_was_sent() -> None:
    one, budget = buffer(0, ordered=True)
    one.push(0, b"pin 1234")
    one.edited(0, b"pin ****")
    assert one.push(0, b"pin 1234").status is Status.REPEAT
    assert one.replacement(0, b"pin 1234") == b"pin ****"
    push = one.push(6, b"34 ok")
    assert (push.fresh, push.overlap) == (b" ok", 2)
    assert one.replacement(6, b"34 ok") == b"** ok"
    assert one.replacement(8, b" ok") is None
    one.close()
    assert budget.used == 0


def test_what_was_copied_before_the_first_edit_is_kept_twice_behind_it() -> None:
    one, budget = buffer(0)
    one.push(0, b"abc")
    one.push(6, b"ghi")
    one.edited(0, b"ABC")
    assert one.push(3, b"def").fresh == b"defghi"
    assert budget.used == 2 * 9
    one.acknowledge(9)
    one.push(9, b"j")
    assert budget.used == 2
    one.close()
    assert budget.used == 0


class Copied(bytes):
    """A copied segment that says when it is looked at."""

    looked_at = 0

    def __len__(self) -> int:
        Copied.looked_at += 1
        return super().__len__()

    def __getitem__(self, key: Any) -> Any:
        Copied.looked_at += 1
        return super().__getitem__(key)


def many_holes() -> StreamBuffer:
    """As many copied bytes as there may be segments, each behind a hole."""
    one, _ = buffer(0)
    for hole in range(LIMITS.pending_segments):
        assert one.push(1000 + 2 * hole, b"a").status is Status.COPIED
    assert one.copies is not None
    one.copies.pieces = [(at, Copied(data)) for at, data in one.copies.pieces]
    Copied.looked_at = 0
    return one


@pytest.mark.parametrize(
    ("at", "payload", "status"),
    [
        (5000, b"beyond", Status.FULL),
        (1 << 30, b"too far", Status.FULL),
        (1501, b"in a hole", Status.CONFLICT),
        (1501, b"b", Status.FULL),
        (1500, b"a", Status.COPIED),
        (0, b"next", Status.DELIVER),
    ],
)
def test_of_what_was_copied_only_what_a_segment_overlaps_is_looked_at(
    at: int, payload: bytes, status: Status
) -> None:
    one = many_holes()
    assert one.push(at, payload).status is status
    assert Copied.looked_at < 10


def test_where_nothing_more_can_be_copied_the_first_hole_is_enough() -> None:
    one = many_holes()
    assert one.push(1000, b"ab" * 1000).status is Status.FULL
    assert Copied.looked_at < 2000


@pytest.mark.parametrize("beyond", [1 << 30, (1 << 31) - 1])
def test_a_segment_beyond_any_window_is_not_kept(beyond: int) -> None:
    one, budget = buffer(0)
    assert one.push(beyond + 1, b"x").status in (Status.FULL, Status.REPEAT)
    assert budget.used == 0
