"""Where everything stands in a picture: boxes and arrows, in pixels from the top left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from appliance_sdk.harness.drawing import MARKS, Panel, Picture, Row, picture
from appliance_sdk.harness.topology import Topology

CHAR = 7.3
"""Width of a character at 12 px in the widest monospace font that browsers fall back to."""
LINE = 19
PAD = 12
GAP = 18
_CHANNEL = 90
"""Between the VPCs and what stands beside them, where arrows run."""
_LANE = 7
"""Between two arrows that run side by side."""


class Box(NamedTuple):
    """A rectangle with its title and rows."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str
    rows: tuple[Row, ...]

    def row_y(self, index: int) -> float:
        """The base line of a row."""
        return self.y + PAD + LINE * (index + 1.6)


class Arrow(NamedTuple):
    """A line of several points with a head at its end."""

    points: tuple[tuple[float, float], ...]
    kind: str
    """"internet", "gateway" or "transit"."""


class Layout(NamedTuple):
    """The whole picture."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


class _Lead(NamedTuple):
    """Where an arrow begins and where it ends, heights in the middle of a row."""

    y: float
    to: str
    name: str


def lay_out(topology: Topology) -> Layout:
    """Find a place for everything: VPCs below each other, load balancers on their right, transit
    gateways on their left."""
    shown = picture(topology)
    left = float(GAP)
    if shown.transit_gateways:
        left += max(map(_width, shown.transit_gateways.values())) + _CHANNEL
    boxes, arrows, leads = _column(shown, left)
    right = max(box.x + box.width for box in boxes)
    gateways = _beside(shown.gateways, leads["endpoint"], "gateway", right + _CHANNEL)
    arrows += _arrows(leads["endpoint"], gateways, "gateway", right - PAD, right + _CHANNEL)
    transit = _beside(shown.transit_gateways, leads["attachment"], "transit", GAP)
    arrows += _arrows(leads["attachment"], transit, "transit", left + PAD, left - _CHANNEL)
    boxes += [*gateways.values(), *transit.values()]
    width = max(box.x + box.width for box in boxes) + GAP
    bottom = max(box.y + box.height for box in boxes)
    return Layout(width, bottom + GAP * 3, tuple(boxes), tuple(arrows))


def shown_text(row: Row) -> str:
    """A row with its mark."""
    return MARKS[row.kind] + row.text


def _column(shown: Picture, x: float) -> tuple[list[Box], list[Arrow], dict[str, list[_Lead]]]:
    """The internet and the VPCs below each other, and what shall lead out of them."""
    internet = [shown.internet] if shown.internet else []
    edges = [Panel("internet gateway", vpc.edge) for vpc in shown.vpcs]
    titles = [Panel(vpc.title, ()) for vpc in shown.vpcs]
    panels = [panel for vpc in shown.vpcs for panel in vpc.subnets]
    width = max(map(_width, [*internet, *panels, *edges, *titles]))
    middle = x + width / 2 + PAD
    boxes = [_box(panel, "internet", x, GAP, width + 2 * PAD) for panel in internet]
    arrows: list[Arrow] = []
    leads: dict[str, list[_Lead]] = {"endpoint": [], "attachment": []}
    y = boxes[0].y + boxes[0].height if boxes else -0.6 * GAP
    for index, (vpc, edge) in enumerate(zip(shown.vpcs, edges, strict=True)):
        if vpc.has_gateway:
            if not index:  # the others are reached as well, but the line would cross this one
                arrows.append(Arrow(((middle, y), (middle, y + GAP * 1.6)), "internet"))
            boxes.append(_box(edge, "internet", x, y + GAP * 1.6, width + 2 * PAD))
            y = boxes[-1].y + boxes[-1].height
            arrows.append(Arrow(((middle, y), (middle, y + GAP * 1.6)), "internet"))
        y += GAP * 1.6
        top, y = y, y + PAD + LINE * 1.4
        inner: list[Box] = []
        for panel in vpc.subnets:
            inner.append(_box(panel, "subnet", x + PAD, y, width))
            for line, row in enumerate(panel.rows):
                if row.kind in leads:
                    leads[row.kind].append(_Lead(inner[-1].row_y(line) - 4, row.to, row.name))
            y = inner[-1].y + inner[-1].height + GAP / 2
        boxes.append(Box(x, top, width + 2 * PAD, y - top + 4, "vpc", vpc.title, ()))
        boxes += inner
        y += 4
    return boxes, arrows, leads


def _beside(
    panels: dict[str, Panel], leads: Sequence[_Lead], kind: str, x: float
) -> dict[str, Box]:
    """In the order of what leads there: a load balancer at the height of its first endpoint, a
    transit gateway in the middle of its attachments, as near as there is room."""
    placed: dict[str, Box] = {}
    y = float(GAP)
    width = max(map(_width, panels.values()), default=0) if kind == "transit" else 0
    for name in dict.fromkeys([*(lead.to for lead in leads), *panels]):
        box = _box(panels[name], kind, x, 0, width)
        rows = [lead.y for lead in leads if lead.to == name]
        wanted = min(rows, default=y) - PAD - 6
        if kind == "transit" and rows:
            wanted = (rows[0] + rows[-1] - box.height) / 2
        placed[name] = box._replace(y=max(y, wanted))
        y = placed[name].y + box.height + GAP
    return placed


def _arrows(
    leads: Sequence[_Lead], placed: dict[str, Box], kind: str, start: float, end: float
) -> Iterator[Arrow]:
    """From each row across the channel, each bend in a lane of its own: those that have the
    longest way bend last, so that they go around the others."""
    ends = [(lead.y, _arrival(lead, placed[lead.to])) for lead in leads]
    ahead = 1 if end > start else -1
    lane = start + ahead * 2 * PAD
    for y, to in sorted(ends, key=lambda both: abs(both[1] - both[0])):
        if abs(to - y) < 1:
            yield Arrow(((start, y), (end, y)), kind)
        else:
            yield Arrow(((start, y), (lane, y), (lane, to), (end, to)), kind)
            lane += ahead * _LANE if abs(end - lane) > 2 * PAD else 0


def _arrival(lead: _Lead, box: Box) -> float:
    """The height at which an arrow ends: at its attachment's row, else as near as it can."""
    for index, row in enumerate(box.rows):
        if lead.name and row.name == lead.name:
            return box.row_y(index) - 4
    return min(max(lead.y, box.y + 8), box.y + box.height - 8)


def _box(panel: Panel, kind: str, x: float, y: float, width: float) -> Box:
    height = 2 * PAD + LINE * (len(panel.rows) + 0.7)
    return Box(x, y, max(width, _width(panel)), height, kind, panel.title, panel.rows)


def _width(panel: Panel) -> float:
    texts = [panel.title + " ", *(shown_text(row) for row in panel.rows)]
    return max(len(text) for text in texts) * CHAR + 2 * PAD
