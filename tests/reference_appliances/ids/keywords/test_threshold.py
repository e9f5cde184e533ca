"""`threshold` and `detection_filter`: which matches of many are reported, and which act."""

from __future__ import annotations

import pytest

from appliance_sdk.testing import Bench
from reference_appliances.ids.keywords.threshold import Threshold
from reference_appliances.ids.problems import RuleError

from ..conftest import MakeBench, options, sids

RULE = 'alert udp any any -> any 53 (content:"evil"; {} sid:1;)'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "threshold:type limit, track by_src, count 1, seconds 60;",
            Threshold("limit", "by_src", 1, 60),
        ),
        (
            "threshold: track by_rule,seconds 5 , type both,count 10;",
            Threshold("both", "by_rule", 10, 5),
        ),
        (
            "detection_filter:track by_dst, count 7, seconds 1;",
            Threshold("detection_filter", "by_dst", 7, 1),
        ),
    ],
)
def test_words(text: str, expected: Threshold) -> None:
    assert options(text) == (expected,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("threshold:type limt, track by_src, count 1, seconds 6;", "did you mean `limit`?"),
        ("threshold:type limit, track by_source, count 1, seconds 6;", "cannot track `by_source`"),
        ("threshold:type limit, track by_src, count 0, seconds 6;", "0 is not in 1 to"),
        ("threshold:type limit, track by_src, count 1;", "lacks `seconds`"),
        ("threshold:type limit, track by_src, count 1, count 2, seconds 6;", "stands twice"),
        ("threshold:type limit, track by_src, counts 1, seconds 6;", "did you mean `count`?"),
        ("detection_filter:type limit, track by_src, count 1, seconds 6;", "unknown word `type`"),
        (
            "threshold:type limit, track by_src, count 1, seconds 6; "
            "detection_filter:track by_src, count 1, seconds 6;",
            "one of the two",
        ),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(RuleError) as caught:
        options(text)
    assert message in str(caught.value)


def asked(bench: Bench, times: int, client: str = "10.0.0.1") -> int:
    """So many packets that match, each of another flow: how many of them passed."""
    flows = [bench.udp(client, "192.0.2.1", 53) for _ in range(times)]
    return sum(flow.client_sends(b"evil") for flow in flows)


@pytest.mark.parametrize(
    ("words", "alerts"),
    [
        ("threshold:type limit, track by_src, count 2, seconds 1000;", 2),
        ("threshold:type threshold, track by_src, count 3, seconds 1000;", 3),
        ("threshold:type both, track by_src, count 4, seconds 1000;", 1),
        ("threshold:type both, track by_src, count 11, seconds 1000;", 0),
        ("detection_filter:track by_src, count 4, seconds 1000;", 6),
    ],
)
def test_so_many_of_ten_are_reported(ids_bench: MakeBench, words: str, alerts: int) -> None:
    bench = ids_bench(RULE.format(words))
    assert asked(bench, 10) == 10
    assert len(sids(bench)) == alerts


def test_each_source_is_counted_by_itself(ids_bench: MakeBench) -> None:
    bench = ids_bench(RULE.format("threshold:type limit, track by_src, count 1, seconds 1000;"))
    asked(bench, 3)
    asked(bench, 3, client="10.0.0.2")
    assert len(sids(bench)) == 2


def test_or_all_of_them_together(ids_bench: MakeBench) -> None:
    for track in ("by_rule", "by_dst"):
        words = f"threshold:type limit, track {track}, count 1, seconds 1000;"
        bench = ids_bench(RULE.format(words))
        asked(bench, 3)
        asked(bench, 3, client="10.0.0.2")
        assert len(sids(bench)) == 1


def test_the_next_window_begins_at_nought(ids_bench: MakeBench) -> None:
    bench = ids_bench(RULE.format("threshold:type limit, track by_src, count 1, seconds 10;"))
    for _ in range(3):
        asked(bench, 4)
        bench.advance(10)
    assert len(sids(bench)) == 3


@pytest.mark.parametrize(
    ("words", "passed", "alerts"),
    [
        ("threshold:type limit, track by_src, count 2, seconds 1000;", 0, 2),
        ("detection_filter:track by_src, count 4, seconds 1000;", 4, 6),
        ("threshold:type both, track by_src, count 4, seconds 1000;", 3, 1),
    ],
)
def test_what_is_not_reported_may_act_all_the_same(
    ids_bench: MakeBench, words: str, passed: int, alerts: int
) -> None:
    """A limit is on alerts; a filter is on the rule."""
    bench = ids_bench(RULE.format(words).replace("alert ", "drop "), mode="ips")
    assert asked(bench, 10) == passed
    assert len(sids(bench)) == alerts


def test_a_rule_of_a_header_and_a_threshold_is_about_the_flow(ids_bench: MakeBench) -> None:
    bench = ids_bench(
        "alert udp any any -> any 53 (threshold:type limit, track by_src, count 5, seconds 1000; "
        "sid:1;)"
    )
    dns = bench.udp("10.0.0.1", "192.0.2.1", 53)
    for _ in range(3):
        dns.client_sends(b"x")
    assert len(sids(bench)) == 1
