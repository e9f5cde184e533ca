"""A topology as a standalone SVG: no script, no font of its own, readable on white."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape

from appliance_sdk.harness.draw_layout import CHAR, GAP, PAD, Layout, lay_out, shown_text
from appliance_sdk.harness.topology import Topology

_COLOURS = {
    "internet": ("#eef4fb", "#6b8fb5"),
    "vpc": ("#fbfbf7", "#8a8a7a"),
    "subnet": ("#ffffff", "#b9b9ad"),
    "gateway": ("#fdf1e3", "#c77f2a"),
    "transit": ("#f2eefa", "#7d62b5"),
}
_INK = {
    "host": "#1f3a5f",
    "endpoint": "#a4560a",
    "attachment": "#5a3f96",
    "route": "#6a6a60",
    "table": "#3f3f38",
    "node": "#a4560a",
    "target": "#1d6b3a",
}
_LINES = {"internet": "#c77f2a", "gateway": "#c77f2a", "transit": "#7d62b5"}
_LEGEND = (
    ("host", "host"),
    ("endpoint", "GWLB endpoint, load balancer node"),
    ("target", "target: an appliance"),
    ("route", "route"),
    ("attachment", "attachment to a transit gateway"),
)


def draw_svg(topology: Topology) -> str:
    """The picture as the text of an SVG file."""
    layout = lay_out(topology)
    drawn = {row.kind for box in layout.boxes for row in box.rows}
    legend = [entry for entry in _LEGEND if entry[0] != "attachment" or "attachment" in drawn]
    width = max(layout.width, sum(len(text) * CHAR + 40 for _, text in legend) + 2 * GAP)
    return "\n".join(_svg(layout, width, legend)) + "\n"


def _svg(layout: Layout, width: float, legend: list[tuple[str, str]]) -> Iterator[str]:
    size = f'width="{width:.0f}" height="{layout.height:.0f}"'
    view = f'viewBox="0 0 {width:.0f} {layout.height:.0f}"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" {size} {view} font-size="12"'
    yield '  font-family="DejaVu Sans Mono, Menlo, Consolas, monospace">'
    for kind in dict.fromkeys(arrow.kind for arrow in layout.arrows):
        colour = _LINES[kind]
        yield f'<defs><marker id="{kind}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8"'
        yield f'  markerHeight="8" orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="{colour}"/>'
        yield "</marker></defs>"
    yield f'<rect width="{width:.0f}" height="{layout.height:.0f}" fill="#ffffff"/>'
    for box in layout.boxes:
        fill, stroke = _COLOURS[box.kind]
        place = f'x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}"'
        yield f'<rect {place} rx="6" fill="{fill}" stroke="{stroke}"/>'
        yield _text(box.x + PAD, box.y + PAD + 8, box.title, "#111111", bold=True)
        for index, row in enumerate(box.rows):
            yield _text(box.x + PAD, box.row_y(index), shown_text(row), _INK[row.kind])
    for arrow in layout.arrows:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in arrow.points)
        line = f'fill="none" stroke="{_LINES[arrow.kind]}" stroke-width="1.6"'
        line += f' marker-end="url(#{arrow.kind})"'
        yield f'<polyline points="{path}" {line}/>'
    x = float(GAP)
    for kind, text in legend:
        yield f'<rect x="{x:.1f}" y="{layout.height - 30:.1f}" width="10" height="10" '
        yield f'  fill="{_INK[kind]}"/>'
        yield _text(x + 16, layout.height - 21, text, "#333333")
        x += len(text) * CHAR + 40
    yield "</svg>"


def _text(x: float, y: float, text: str, colour: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    space = ' xml:space="preserve"'
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}"{weight}{space}>{escape(text)}</text>'
