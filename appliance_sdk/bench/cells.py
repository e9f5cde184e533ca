"""Figures as the cells of a table: the median, and in brackets how far the runs lie apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from appliance_sdk.bench.figures import Result, Series, Target

_MOST_COLUMNS = 4
"""Of figures side by side, so that a table fits a terminal."""
TARGETS_HEAD = ("target", "goal", "measured", "single runs", "")


def tables(result: Result) -> Iterator[list[list[str]]]:
    """The result's rows, header first, as several tables if there are many columns."""
    names = columns(result)
    for at in range(0, len(names), _MOST_COLUMNS):
        some = names[at : at + _MOST_COLUMNS]
        remarks = not at and any(row.remark for row in result.rows)
        table = [["", *some, *([""] if remarks else [])]]
        for row in result.rows:
            cells = [cell(row.values.get(name)) for name in some]
            table.append([row.name, *cells, *([row.remark] if remarks else [])])
        yield table


def columns(result: Result) -> list[str]:
    """The names of what was measured, in the order of their first use."""
    return list(dict.fromkeys(name for row in result.rows for name in row.values))


def cell(series: Series | None) -> str:
    """Median and spread."""
    if series is None or not series.runs:
        return "-"
    text = number(series.median)
    if len(series.runs) > 1:
        text += f" ({number(series.least)}-{number(series.most)})"
    return text


def target_cells(target: Target) -> tuple[str, ...]:
    """A line of the table of targets."""
    sign = "at least" if target.at_least else "at most"
    unit = f" {target.unit}" if target.unit else ""
    spread = ""
    if len(target.runs) > 1:
        spread = f"{number(min(target.runs))}-{number(max(target.runs))}"
    return (
        target.name,
        f"{sign} {number(target.goal)}{unit}",
        number(target.measured),
        spread,
        "ok" if target.ok else "missed",
    )


def target_rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """The table of all targets, header first."""
    found = [target_cells(target) for result in results for target in result.targets]
    return [TARGETS_HEAD, *found]


def number(value: float) -> str:
    """Three digits are what a measurement has to say: 142k, 9,876, 2.61."""
    if value != value:
        return "none"
    if value >= 9_999_500:
        return f"{value / 1e6:,.1f}M"
    if value >= 9_999.5:
        return f"{value / 1000:,.0f}k"
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"
