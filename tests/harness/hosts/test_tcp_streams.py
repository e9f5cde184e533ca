"""Sequence numbers and the two streams against models that are too simple to be wrong."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance_sdk.harness.hosts.tcp_streams import ReceiveStream, SendStream
from appliance_sdk.harness.hosts.tcp_types import unwrap, wrap

numbers = st.integers(0, 0xFFFFFFFF)


@given(numbers, st.integers(0, 2**40), st.integers(-(2**31) + 1, 2**31 - 1))
def test_unwrap_finds_the_offset_that_wrap_hid(first: int, near: int, away: int) -> None:
    assert unwrap(wrap(first, near + away), first, near) == near + away


@given(
    numbers,
    st.binary(max_size=40),
    st.lists(st.tuples(st.integers(-5, 45), st.integers(0, 20)), max_size=60),
    st.integers(0, 50),
    st.integers(0, 8),
)
def test_received_bytes_are_a_prefix_of_what_was_sent(
    first: int, sent: bytes, cuts: list[tuple[int, int]], window: int, room: int
) -> None:
    stream = ReceiveStream(first, room)
    arrived = bytearray()
    for start, size in cuts:
        at, end = max(0, start), max(0, min(start + size, len(sent)))
        data, fin = sent[at:end], end == len(sent) and at <= end
        offset = stream.offset_of(wrap(first, at + 1))
        if stream.accepts(offset, len(data) + fin, window):
            before = stream.nxt
            ready = stream.take(offset, data, fin, window)
            arrived += ready
            assert len(ready) <= stream.nxt - before
        assert bytes(arrived) == sent[: len(arrived)]
        assert stream.nxt == 1 + len(arrived) + stream.finished
        assert not stream.finished or len(arrived) == len(sent)


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=30).map(lambda data: ("write", data)),
            st.integers(0, 60).map(lambda size: ("window", size)),
            st.integers(0, 40).map(lambda size: ("ack", size)),
            st.just(("close", 0)),
            st.just(("probe", 0)),
        ),
        max_size=40,
    )
)
def test_pieces_follow_each_other_within_the_window(steps: list[tuple[str, int | bytes]]) -> None:
    stream = SendStream(5, 10, 100)
    stream.nxt = 1
    stream.acknowledge(1)
    written, sent = bytearray(), bytearray()
    for order, (step, value) in enumerate(steps):
        if step == "write" and isinstance(value, bytes):
            room = 100 - (len(written) - stream.acked)
            assert stream.write(value) == (not stream.closed and len(value) <= room)
            if not stream.closed and len(value) <= room:
                written += value
        elif step == "window" and isinstance(value, int):
            stream.update_window(order, stream.una, value)
        elif step == "ack" and isinstance(value, int):
            stream.acknowledge(min(stream.una + value, stream.nxt))
        elif step == "close":
            stream.closed = True
        before = stream.nxt
        while (piece := stream.next_piece(probe=step == "probe")) is not None:
            assert piece.offset == 1 + len(sent)
            assert len(piece.data) <= 10
            sent += piece.data
            if step == "probe":
                assert len(piece.data) + piece.fin == 1
                break
            assert stream.nxt <= stream.una + stream.window
        assert stream.nxt >= before
        assert bytes(sent) == bytes(written[: len(sent)])
        assert stream.fin_sent == (stream.nxt == 2 + len(written) and stream.closed)
        if stream.in_flight:
            again = stream.first_piece()
            assert again.data == bytes(written[stream.una - 1 : stream.una - 1 + len(again.data)])
            assert again.data or again.fin
            assert again.offset + len(again.data) + again.fin <= stream.nxt


def test_an_older_segment_does_not_move_the_window() -> None:
    stream = SendStream(0, 100, 100)
    assert stream.update_window(5, 5, 10)
    assert not stream.update_window(4, 9, 99)
    assert stream.window == 10
    assert not stream.update_window(5, 5, 0)
    assert stream.update_window(5, 6, 1)
