"""Rankings as tables of 80 columns."""

from __future__ import annotations

import re
from collections.abc import Sequence

from appliance_sdk.cli.text import table
from reference_appliances.analytics.rankings import Ranking

_COLUMNS = 80
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def ranking_lines(ranking: Ranking, places: int) -> list[str]:
    """A table: the measure, its share of everything, flows, and the values of the fields."""
    summary, measure = ranking.summary, ranking.measure
    body = []
    for top in summary.top(places):
        share = f"{100 * top.weight / summary.total:.1f}%" if summary.total else ""
        flows = f"{top.times:,}" if measure != "flows" else ""
        body.append([amount(top.weight, measure), share, flows, *top.key])
    rows = [[measure, "share", "flows", *ranking.fields], *body]
    if measure == "flows":
        rows = [[*row[:2], *row[3:]] for row in rows]
    numbers = len(rows[0]) - len(ranking.fields)
    lines = table(_fit(rows, numbers), right=range(numbers))
    left_out = len(summary) - len(body)
    if left_out:
        lines.append(f"and {left_out:,} more")
    if summary.bound:
        bound = amount(summary.bound, measure)
        lines.append(f"more came than is remembered: each may be up to {bound} too high")
    return lines


def amount(number: int, measure: str) -> str:
    """1234567 as "1.2 MB" (powers of 1000), or as "1,234,567" if it is no bytes."""
    if measure != "bytes":
        return f"{number:,}"
    value = float(number)
    for unit in _UNITS:
        if value < 999.95 or unit == _UNITS[-1]:
            break
        value /= 1000
    return f"{number} B" if unit == "B" else f"{value:,.1f} {unit}"


def _fit(rows: Sequence[Sequence[str]], numbers: int) -> list[list[str]]:
    """The rows with their widest texts shortened in the middle until a line fits."""
    cells = [[_plain(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    texts = range(numbers, len(widths))
    while sum(widths) + 2 * len(widths) - 2 > _COLUMNS and max(widths[i] for i in texts) > 8:
        widest = max(texts, key=lambda i: (widths[i], -i))
        widths[widest] -= 1
    return [
        [_shorten(cell, width) for cell, width in zip(row, widths, strict=True)] for row in cells
    ]


def _plain(text: str) -> str:
    """A file may come from anywhere: nothing of it steers the terminal."""
    return re.sub(r"[^ -~]", "?", text)


def _shorten(text: str, width: int) -> str:
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"
