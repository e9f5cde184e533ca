"""Statistics, targets, and how they are shown; nothing is measured here."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET

import pytest

from appliance_sdk.bench.cells import cell, number, tables, target_cells
from appliance_sdk.bench.chart import draw_chart
from appliance_sdk.bench.figures import (
    Result,
    Row,
    Series,
    Target,
    as_plain,
    cost_target,
    speed_target,
    target_of,
)
from appliance_sdk.bench.generator import FirstWrong, Latency, Sent
from appliance_sdk.bench.lab import Tally
from appliance_sdk.bench.measures import saturation_row
from appliance_sdk.bench.page import write_page
from appliance_sdk.bench.report import Report

NAIVE = Series("1/s", (50.0, 60.0, 40.0))
FAST = Series("1/s", (100.0, 150.0, 120.0))


def test_the_median_counts_and_the_spread_is_kept() -> None:
    assert (FAST.median, FAST.least, FAST.most) == (120.0, 100.0, 150.0)
    assert FAST.over(NAIVE).runs == (2.0, 2.5, 3.0)
    assert math.isnan(Series("", ()).median)


def test_a_ratio_is_that_of_the_runs_that_were_disturbed_least() -> None:
    mine, other = Series("us", (8.0, 5.0, 9.0)), Series("us", (4.0, 9.0, 18.0))
    faster = speed_target("speed", mine, other, 0.8)
    assert (faster.measured, faster.runs, faster.ok) == (0.8, (0.5, 1.8, 2.0), True)
    dearer = cost_target("cost", mine, other, 1.2)
    assert (dearer.measured, dearer.runs, dearer.ok) == (1.25, (2.0, 5 / 9, 0.5), False)


@pytest.mark.parametrize(
    ("at_least", "goal", "ok"),
    [(True, 150.0, True), (True, 150.1, False), (False, 100.0, True), (False, 99.9, False)],
)
def test_the_run_that_was_disturbed_least_reaches_a_target_or_not(
    at_least: bool, goal: float, ok: bool
) -> None:
    assert target_of("x", FAST, goal, at_least=at_least).ok is ok


def test_what_could_not_be_measured_is_no_success() -> None:
    for at_least in (True, False):
        assert not target_of("x", Series("", ()), 0.0, at_least=at_least).ok
    for compare in (speed_target, cost_target):
        assert not compare("x", FAST, Series("", ()), 1.0).ok
        assert not compare("x", Series("", ()), FAST, 1.0).ok


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (2.5, "2.5"),
        (0.98765, "0.988"),
        (12.34, "12.3"),
        (120.4, "120"),
        (9999.4, "9,999"),
        (9999.6, "10k"),
        (141_960, "142k"),
        (12_345_678, "12.3M"),
        (float("nan"), "none"),
    ],
)
def test_figures_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_a_cell_says_how_far_the_runs_lie_apart() -> None:
    assert cell(FAST) == "120 (100-150)"
    assert cell(Series("", (3.0,))) == "3"
    assert cell(None) == cell(Series("", ())) == "-"


def result() -> Result:
    values = {name: Series("1/s", (1.0,)) for name in "abcdef"}
    rows = [
        Row("naive loop", {"packets/s": NAIVE, "x naive": NAIVE.over(NAIVE)}),
        Row("bypassed <all>", {"packets/s": FAST, "x naive": FAST.over(NAIVE), **values}, "good"),
    ]
    targets = [speed_target("speed", NAIVE, FAST, 2.0)]
    return Result("handlers", "A & B", rows, targets, ["a note"])


def test_a_table_with_many_columns_is_cut_in_two() -> None:
    first, second = tables(result())
    assert first[0] == ["", "packets/s", "x naive", "a", "b", ""]
    assert first[2][-1] == "good"
    assert second[0] == ["", "c", "d", "e", "f"]
    assert second[1] == ["naive loop", "-", "-", "-", "-"]


def test_json_has_every_run_and_no_nan() -> None:
    bad = Target("lost", "", 0, False, float("nan"))
    plain = json.loads(Report([result()._replace(targets=[bad])], {"a": "b"}).as_json())
    assert plain["targets"] == [
        {
            "name": "lost",
            "scenario": "handlers",
            "unit": "",
            "goal": 0,
            "at_least": False,
            "measured": None,
            "runs": [],
            "ok": False,
        }
    ]
    assert plain["results"][0]["rows"][0]["values"]["packets/s"] == {
        "unit": "1/s",
        "median": 50.0,
        "least": 40.0,
        "most": 60.0,
        "runs": [50.0, 60.0, 40.0],
    }
    assert as_plain([])["targets"] == []


def test_the_chart_is_an_svg_with_a_bar_for_each_rate() -> None:
    root = ET.fromstring(draw_chart([result()]))
    space = "{http://www.w3.org/2000/svg}"
    naive, fast = [r for r in root.iter(f"{space}rect") if r.get("height") == "14"]
    assert float(fast.get("width", 0)) / float(naive.get("width", 1)) == pytest.approx(2.4, 0.01)
    texts = [text.text for text in root.iter(f"{space}text")]
    assert {"A & B", "bypassed <all>", "120  2.50x", "packets/s"} <= set(texts)
    width = float(root.get("width", 0))
    for text in root.iter(f"{space}text"):
        long = len(text.text or "") * 7.3
        begin = float(text.get("x", 0)) - {"end": long, "middle": long / 2}.get(
            text.get("text-anchor", ""), 0
        )
        assert begin >= 0, text.text
        assert begin + long <= width, text.text


def test_a_chart_of_nothing_is_none() -> None:
    rows = [Row("memory", {"bytes": Series("bytes", (700.0,))})]
    assert draw_chart([Result("growth", "", rows)]) == ""


def test_the_page_has_the_machine_the_targets_and_every_figure() -> None:
    page = write_page(Report([result()], {"processor": "Z80"}), "performance.svg")
    assert "| processor | Z80 |" in page
    assert "](performance.svg)" in page
    assert "| " + " | ".join(target_cells(result().targets[0])) + " |" in page
    assert "| naive loop | 50 (40-60) | 1 (1-1) |" in page
    assert "- a note" in page
    for table in re.findall(r"(?:^\|.*\n)+", page, re.M):
        assert len({line.count("|") for line in table.splitlines()}) == 1, table


def sent(**changes: object) -> Sent:
    fields: dict[str, object] = {
        "opened": 10,
        "sent": 1000,
        "answered": 1000,
        "answered_in_time": 900,
        "seconds": 0.5,
        "wrong": 0,
        "repeated": 0,
        "reordered": 0,
        "other": 0,
        "whole": 3,
        "unread": 0,
        "refused": 0,
        "held": 5,
        "process_s": 0.009,
        "busy_s": 0.018,
        "softirq_s": 0.0,
        "latency_us": Latency(1, 2, 3, 4),
    }
    return Sent(**{**fields, **changes})  # type: ignore[arg-type]


def test_rates_count_what_came_back_while_it_was_sent() -> None:
    one = sent(answered=950)
    assert (one.rate, one.process_us, one.busy_us, one.lost) == (1800.0, 10.0, 20.0, 50)
    nothing = sent(answered_in_time=0, seconds=0.0)
    assert (nothing.rate, nothing.process_us, nothing.busy_us) == (0.0, 0.0, 0.0)


def test_a_contestant_that_outran_the_generator_is_marked() -> None:
    assert saturation_row("x", [sent(), sent()]).remark == ""
    assert saturation_row("x", [sent(held=0), sent(held=0)]).remark == "as fast as the generator"
    assert saturation_row("x", [sent(answered=900)]).remark == "100 lost"


def test_what_a_contestant_takes_is_said_in_terms_of_both_loops() -> None:
    runs = [sent(answered_in_time=count) for count in (100, 200)]  # in half a second
    naive, ceiling = Series("1/s", (100.0, 200.0)), Series("1/s", (400.0, 500.0))
    row = saturation_row("x", runs, naive, ceiling)
    assert row.values["x naive"].runs == (2.0, 2.0)
    assert row.values["of the C loop"].runs == (0.5, 0.8)
    assert "of the C loop" not in saturation_row("x", runs, naive).values


def test_one_wrong_reply_fails_the_run_and_the_first_one_is_shown() -> None:
    tally = Tally()
    tally.add("one", sent())
    assert tally.result().targets[0].ok
    tally.add("two", sent(wrong=2, first_wrong=FirstWrong(5, 79, 1, 2)))
    tally.add("three", sent(repeated=1))
    checker = tally.result()
    assert not checker.targets[0].ok
    assert checker.targets[0].measured == 3
    assert checker.rows[-1].remark.startswith("two: byte 79 of the reply to packet 5")
    assert checker.rows[0].values["count"].median == 3 * 1010 + 3
