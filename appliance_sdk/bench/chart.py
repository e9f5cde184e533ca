"""The figures as a picture: bars from zero, with the range of the runs; a standalone SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from appliance_sdk.bench.cells import number
from appliance_sdk.bench.figures import Result, Row, Series

_CHAR = 7.3
"""Width of a character at 12 px in the widest monospace font that browsers fall back to."""
_BAR, _STEP, _PAD, _PLOT = 14, 22, 18, 420
_AXIS = 26
_INK, _QUIET, _GRID = "#222222", "#6a6a60", "#dddddd"
_COLOURS = {"naive": "#9a9a8c", "C loop": "#c77f2a", "hairpin": "#e0b070", "": "#2f6f9f"}


class Panel(NamedTuple):
    """One result: its bars."""

    title: str
    measured: str
    """What a bar is long for."""
    bars: Sequence[tuple[Row, Series]]


def draw_chart(results: Sequence[Result]) -> str:
    """Rates of each scenario that has some. "" if none has."""
    panels = [panel for result in results if (panel := _panel(result)) is not None]
    if not panels:
        return ""
    return "\n".join(_svg(panels)) + "\n"


def _panel(result: Result) -> Panel | None:
    measured = next(iter(result.rows[0].values), "") if result.rows else ""
    bars = [
        (row, series)
        for row in result.rows
        if (series := row.values.get(measured)) is not None and series.unit == "1/s"
    ]
    if not bars or result.scenario == "harness":
        return None
    return Panel(result.title, measured, bars)


def _svg(panels: Sequence[Panel]) -> Iterator[str]:
    titles = max(len(panel.title) + len(panel.measured) + 3 for panel in panels) * _CHAR
    names = max(len(row.name) for panel in panels for row, _ in panel.bars) * _CHAR + 2 * _PAD
    width = max(names + _PLOT + 15 * _CHAR, titles, 75 * _CHAR) + _PAD
    heights = [_STEP * (len(panel.bars) + 1) + _AXIS + _PAD for panel in panels]
    height = sum(heights) + 2 * _PAD
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-size="12" '
        'font-family="DejaVu Sans Mono, Menlo, Consolas, monospace">'
    )
    yield f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>'
    y = float(_PAD)
    for panel, tall in zip(panels, heights, strict=True):
        yield from _draw(panel, names, y)
        y += tall
    legend = "bar: median of the runs; line: from the least to the most; x: to the naive loop"
    yield _text(_PAD, height - _PAD / 2, legend, _QUIET)
    yield "</svg>"


def _draw(panel: Panel, left: float, top: float) -> Iterator[str]:
    yield _text(_PAD, top + 12, panel.title, _INK, bold=True)
    yield _text(_PAD + (len(panel.title) + 2) * _CHAR, top + 12, panel.measured, _QUIET)
    most = max(series.most for _, series in panel.bars)
    step = _tick(most)
    scale = _PLOT / (step * (int(most / step) + 1))
    bottom = top + _STEP * (len(panel.bars) + 1)
    at = 0.0
    while at * scale <= _PLOT + 0.5:
        x = left + at * scale
        yield f'<path d="M{x:.1f} {top + _STEP:.1f} V{bottom:.1f}" stroke="{_GRID}"/>'
        yield _text(x, bottom + 14, number(at), _QUIET, anchor="middle")
        at += step
    for index, (row, series) in enumerate(panel.bars):
        y = top + _STEP * (index + 1) + (_STEP - _BAR) / 2
        colour = next(_COLOURS[word] for word in _COLOURS if word in row.name)
        long = series.median * scale
        yield _text(left - 8, y + 11, row.name, _INK, anchor="end")
        place = f'x="{left:.1f}" y="{y:.1f}" width="{long:.1f}" height="{_BAR}"'
        yield f'<rect {place} fill="{colour}"/>'
        if len(series.runs) > 1:
            least, longest = left + series.least * scale, left + series.most * scale
            line = f"M{least:.1f} {y + _BAR / 2:.1f} H{longest:.1f}"
            yield f'<path d="{line}" stroke="{_INK}" stroke-width="2"/>'
        ratio = row.values.get("x naive")
        text = number(series.median) + (f"  {ratio.median:.2f}x" if ratio else "")
        yield _text(left + series.most * scale + 8, y + 11, text, _INK)


def _tick(most: float) -> float:
    """A round step, so that there are no more than six of them."""
    power = 10.0 ** math.floor(math.log10(most)) if most > 0 else 1.0
    return next(power * step for step in (0.2, 0.5, 1, 2) if most / (power * step) <= 6)


def _text(
    x: float, y: float, text: str, colour: str, *, bold: bool = False, anchor: str = "start"
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" xml:space="preserve"'
    return f'<text {place} fill="{colour}"{weight}>{escape(text)}</text>'
