from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from appliance_sdk.plugin.chunk import Chunk


def chunks(stream: bytes, cuts: list[int], lookback: int) -> list[Chunk]:
    """The stream as a handler with that look-back sees it, cut at the given places."""
    edges = sorted({0, len(stream), *(c % (len(stream) + 1) for c in cuts)})
    out = []
    for start, end in itertools.pairwise(edges):
        before = stream[max(0, start - lookback) : start]
        out.append(Chunk(before + stream[start:end], True, offset=start, fresh=len(before), gap=0))
    return out


@given(st.lists(st.sampled_from([b"ab", b"x", b"abc"]), max_size=20), st.lists(st.integers(0, 99)))
def test_a_match_is_found_once_wherever_the_stream_is_cut(
    parts: list[bytes], cuts: list[int]
) -> None:
    stream = b"".join(parts)
    assert sum(c.count(b"ab") for c in chunks(stream, cuts, 8)) == stream.count(b"ab")
    assert any(b"abc" in c for c in chunks(stream, cuts, 8)) is (b"abc" in stream)


def test_what_was_shown_before_is_no_match() -> None:
    chunk = Chunk(b"evil..", True, offset=4, fresh=4, gap=0)
    assert b"evil" not in chunk
    assert b"l." in chunk
    assert chunk.count(b"evil") == 0


def test_mask_leaves_look_back_alone_and_keeps_the_length() -> None:
    chunk = Chunk(b"12345678", False, offset=10, fresh=4, gap=0)
    assert chunk.masked() is None
    chunk.mask(2, 6)
    assert chunk.masked() == b"**78"
    chunk.mask(7, 99, b"#")
    assert chunk.masked() == b"**7#"
    assert chunk.to_client
