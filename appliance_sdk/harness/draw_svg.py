"""A topology as a standalone SVG: no script, no font of its own, readable on white."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple
from xml.sax.saxutils import escape

from appliance_sdk.harness.drawing import Panel, Row, picture
from appliance_sdk.harness.topology import Topology

_CHAR = 7.3
"""Width of a character at 12 px in the widest monospace font that browsers fall back to."""
_LINE = 19
_PAD = 12
_GAP = 18
_CHANNEL = 90
"""Between the VPCs and the load balancers, where arrows run."""
_COLOURS = {
    "internet": ("#eef4fb", "#6b8fb5"),
    "vpc": ("#fbfbf7", "#8a8a7a"),
    "subnet": ("#ffffff", "#b9b9ad"),
    "gateway": ("#fdf1e3", "#c77f2a"),
}
_INK = {
    "host": "#1f3a5f",
    "endpoint": "#a4560a",
    "route": "#6a6a60",
    "node": "#a4560a",
    "target": "#1d6b3a",
}
_LEGEND = (
    ("host", "host"),
    ("endpoint", "GWLB endpoint, load balancer node"),
    ("target", "target: an appliance"),
    ("route", "route"),
)


class Box(NamedTuple):
    """A rectangle with its title and rows, in pixels from the top left."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str
    rows: tuple[Row, ...]

    def row_y(self, index: int) -> float:
        """The base line of a row."""
        return self.y + _PAD + _LINE * (index + 1.6)


class Layout(NamedTuple):
    """Where everything stands. `arrows` are points of lines, each ending in a head."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    arrows: tuple[tuple[tuple[float, float], ...], ...]


def lay_out(topology: Topology) -> Layout:
    """Find a place for everything: VPCs below each other, load balancers beside them."""
    shown = picture(topology)
    panels = [shown.internet, *(panel for vpc in shown.vpcs for panel in vpc.subnets)]
    edges = [Panel("internet gateway", vpc.edge) for vpc in shown.vpcs]
    titles = [Panel(vpc.title, ()) for vpc in shown.vpcs]
    width = max(_width(panel) for panel in [*panels, *edges, *titles])
    boxes = [_box(shown.internet, "internet", _GAP, _GAP, width + 2 * _PAD)]
    arrows: list[tuple[tuple[float, float], ...]] = []
    leads: list[tuple[float, float, str]] = []
    y = boxes[0].y + boxes[0].height
    middle = _GAP + width / 2 + _PAD
    for index, (vpc, edge) in enumerate(zip(shown.vpcs, edges, strict=True)):
        if vpc.has_gateway:
            if not index:  # the others are reached as well, but the line would cross this one
                arrows.append(((middle, y), (middle, y + _GAP * 1.6)))
            boxes.append(_box(edge, "internet", _GAP, y + _GAP * 1.6, width + 2 * _PAD))
            y = boxes[-1].y + boxes[-1].height
            arrows.append(((middle, y), (middle, y + _GAP * 1.6)))
        y += _GAP * 1.6
        outer_y, y = y, y + _PAD + _LINE * 1.4
        inner: list[Box] = []
        for panel in vpc.subnets:
            inner.append(_box(panel, "subnet", _GAP + _PAD, y, width))
            for line, row in enumerate(panel.rows):
                if row.kind == "endpoint":
                    right = inner[-1].x + width
                    leads.append((right, inner[-1].row_y(line) - 4, row.gateway))
            y = inner[-1].y + inner[-1].height + _GAP / 2
        outer = Box(_GAP, outer_y, width + 2 * _PAD, y - outer_y + 4, "vpc", vpc.title, ())
        boxes += [outer, *inner]
        y += 4
    side = _GAP + width + 2 * _PAD + _CHANNEL
    placed = _beside(shown.gateways, leads, side)
    boxes += placed.values()
    arrows += _arrows(leads, placed, side)
    right = max((box.x + box.width for box in boxes), default=0)
    bottom = max(box.y + box.height for box in boxes)
    return Layout(right + _GAP, bottom + _GAP * 3, tuple(boxes), tuple(arrows))


def draw_svg(topology: Topology) -> str:
    """The picture as the text of an SVG file."""
    layout = lay_out(topology)
    legend = sum(len(text) * _CHAR + 40 for _, text in _LEGEND) + 2 * _GAP
    width = max(layout.width, legend)
    return "\n".join(_svg(layout, width)) + "\n"


def _svg(layout: Layout, width: float) -> Iterator[str]:
    size = f'width="{width:.0f}" height="{layout.height:.0f}"'
    view = f'viewBox="0 0 {width:.0f} {layout.height:.0f}"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" {size} {view} font-size="12"'
    yield '  font-family="DejaVu Sans Mono, Menlo, Consolas, monospace">'
    yield '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8"'
    yield '  markerHeight="8" orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="#c77f2a"/></marker>'
    yield "</defs>"
    yield f'<rect width="{width:.0f}" height="{layout.height:.0f}" fill="#ffffff"/>'
    for box in layout.boxes:
        fill, stroke = _COLOURS[box.kind]
        place = f'x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}"'
        yield f'<rect {place} rx="6" fill="{fill}" stroke="{stroke}"/>'
        yield _text(box.x + _PAD, box.y + _PAD + 8, box.title, "#111111", bold=True)
        for index, row in enumerate(box.rows):
            yield _text(box.x + _PAD, box.row_y(index), _shown(row), _INK[row.kind])
    for points in layout.arrows:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        line = 'fill="none" stroke="#c77f2a" stroke-width="1.6" marker-end="url(#head)"'
        yield f'<polyline points="{path}" {line}/>'
    x = float(_GAP)
    for kind, text in _LEGEND:
        yield f'<rect x="{x:.1f}" y="{layout.height - 30:.1f}" width="10" height="10" '
        yield f'  fill="{_INK[kind]}"/>'
        yield _text(x + 16, layout.height - 21, text, "#333333")
        x += len(text) * _CHAR + 40
    yield "</svg>"


def _beside(
    gateways: dict[str, Panel], leads: list[tuple[float, float, str]], x: float
) -> dict[str, Box]:
    """Load balancers in the order of their first endpoint, as near to it as there is room."""
    placed: dict[str, Box] = {}
    y = float(_GAP)
    names = [name for _, _, name in leads] + list(gateways)
    for name in dict.fromkeys(names):
        wanted = min((at for _, at, gateway in leads if gateway == name), default=y)
        panel = gateways[name]
        box = _box(panel, "gateway", x, max(y, wanted - _PAD - 6), _width(panel))
        placed[name] = box
        y = box.y + box.height + _GAP
    return placed


def _arrows(
    leads: list[tuple[float, float, str]], placed: dict[str, Box], side: float
) -> Iterator[tuple[tuple[float, float], ...]]:
    """From each endpoint across the channel, each bend in a lane of its own."""
    for index, (x, y, gateway) in enumerate(leads):
        box = placed[gateway]
        end = min(max(y, box.y + 8), box.y + box.height - 8)
        lane = side - 18 - (index % 8) * 7
        if abs(end - y) < 1:
            yield (x, y), (side, y)
        else:
            yield (x, y), (lane, y), (lane, end), (side, end)


def _box(panel: Panel, kind: str, x: float, y: float, width: float) -> Box:
    height = 2 * _PAD + _LINE * (len(panel.rows) + 0.7)
    return Box(x, y, max(width, _width(panel)), height, kind, panel.title, panel.rows)


def _width(panel: Panel) -> float:
    texts = [panel.title + " ", *(_shown(row) for row in panel.rows)]
    return max(len(text) for text in texts) * _CHAR + 2 * _PAD


def _shown(row: Row) -> str:
    marks = {"host": "▪ ", "endpoint": "◇ ", "route": "   ", "node": "○ ", "target": "● "}
    return marks[row.kind] + row.text


def _text(x: float, y: float, text: str, colour: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    space = ' xml:space="preserve"'
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}"{weight}{space}>{escape(text)}</text>'
