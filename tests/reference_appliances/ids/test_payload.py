"""Contents in a buffer and in a stream, against an oracle that knows only sets of positions."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance_sdk.testing import Bench
from reference_appliances.ids import Ids
from reference_appliances.ids.keywords.content import Content
from reference_appliances.ids.payload import Payload

from .conftest import options, sids, subject

PATTERNS = st.text("abA", min_size=1, max_size=3).map(str.encode)
SMALL = st.integers(0, 5)


def contents(*, negated: bool, ends: bool) -> st.SearchStrategy[Content]:
    signed = st.booleans() if negated else st.just(False)
    absolute = st.builds(
        Content,
        PATTERNS,
        negated=signed,
        nocase=st.booleans(),
        offset=st.none() | SMALL,
        depth=st.none() | st.integers(3, 8),
        endswith=st.booleans() if ends else st.just(False),
    )
    relative = st.builds(
        Content,
        PATTERNS,
        negated=signed,
        nocase=st.booleans(),
        distance=st.integers(-3, 4),
        within=st.none() | st.integers(3, 6),
    )
    return absolute | relative


def expected(rule: Sequence[Content], data: bytes) -> bool:
    """Every position that a match may end at, from one content to the next."""
    reached = {0}
    for content in rule:
        places = {p for p in reached if ends(content, data, p)}
        if not content.negated:
            found = {end for p in reached for end in ends(content, data, p)}
            if not found:
                return False
            reached = found if content.relative else set(ends(content, data, 0))
        elif content.relative:
            reached -= places
            if not reached:
                return False
        elif ends(content, data, 0):
            return False
    return True


def ends(content: Content, data: bytes, position: int) -> list[int]:
    """Where the content ends if the one before it ended at `position`: all places tried."""
    found = []
    size = len(content.pattern)
    for at in range(len(data) - size + 1):
        here, wanted = data[at : at + size], content.pattern
        if content.nocase:
            here, wanted = here.lower(), wanted.lower()
        low = position + (content.distance or 0) if content.relative else content.offset or 0
        bound = content.within if content.relative else content.depth
        fits = at >= low and (bound is None or at + size <= low + bound)
        if here == wanted and fits and (not content.endswith or at + size == len(data)):
            found.append(at + size)
    return found


@settings(max_examples=400)
@given(
    st.lists(contents(negated=True, ends=True), min_size=1, max_size=4),
    st.text("abAx", max_size=12).map(str.encode),
)
def test_matches_are_those_of_the_oracle(rule: list[Content], data: bytes) -> None:
    assert Payload(rule).found_in(subject(data)) is expected(rule, data)


def as_text(content: Content) -> str:
    body = f'content:"{content.pattern.decode()}";'
    body += " nocase;" if content.nocase else ""
    for name in ("offset", "depth", "distance", "within"):
        if getattr(content, name) is not None:
            body += f" {name}:{getattr(content, name)};"
    return body


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.lists(contents(negated=False, ends=False), min_size=1, max_size=3),
        min_size=1,
        max_size=6,
    ),
    st.text("abAx", min_size=1, max_size=10).map(str.encode),
)
def test_a_stream_cut_anywhere_gives_the_same_alerts(
    tmp_path_factory: pytest.TempPathFactory, rules: list[list[Content]], data: bytes
) -> None:
    texts = [
        f"alert tcp-stream any any -> any any ({' '.join(map(as_text, rule))} sid:{n};)"
        for n, rule in enumerate(rules, 1)
    ]
    path = tmp_path_factory.mktemp("rules") / "test.rules"
    path.write_text("\n".join(texts))
    bench = Bench(Ids, rules=[str(path)])
    wanted = {n for n, rule in enumerate(rules, 1) if expected(rule, data)}
    for cut in range(len(data)):
        assert alerts(bench, [data[:cut], data[cut:]]) == wanted
    assert alerts(bench, [bytes([byte]) for byte in data]) == wanted


def alerts(bench: Bench, pieces: Sequence[bytes]) -> set[int]:
    """The rules that alert on a new connection, each no more than once."""
    bench.events.clear()
    connection = bench.tcp("10.0.0.1", "192.0.2.1", 80)
    for piece in pieces:
        assert not piece or connection.client_sends(piece)
    found = sids(bench)
    assert len(set(found)) == len(found)
    return set(found)


def test_a_rule_that_tries_for_too_long_does_not_match() -> None:
    rule = 'content:"a"; ' + 'content:"a"; distance:0; ' * 9 + 'content:"b"; distance:0;'
    looked_at = subject(b"a" * 2000)
    began = time.perf_counter()
    assert not Payload(options(rule)).found_in(looked_at)
    assert looked_at.budget < 0
    assert time.perf_counter() - began < 1


def test_expressions_are_tried_after_contents() -> None:
    """An expression that would take forever is not even begun."""
    rule = 'pcre:"/^(a+)+$/"; content:"b";'
    assert not Payload(options(rule)).found_in(subject(b"a" * 60 + b"c"))
