"""A topology as boxes and arrows in a terminal."""

from __future__ import annotations

from appliance_sdk.harness.drawing import MARKS, Panel, Picture, VpcPicture, picture
from appliance_sdk.harness.topology import Topology

_WIDTH = 60
"""Columns of the text in a subnet's box; longer lines make all of them wider."""
_ATTACHED = "│ │ " + MARKS["attachment"]
"""How the line of an attachment begins: the borders of VPC and subnet, and its mark."""


def draw_text(topology: Topology) -> str:
    """The picture, some 110 columns wide."""
    shown = picture(topology)
    panels = [panel for vpc in shown.vpcs for panel in vpc.subnets]
    above = [shown.internet] if shown.internet else []
    below = list(shown.transit_gateways.values())
    inner = max(_WIDTH, *(_needed(panel) for panel in [*above, *panels, *below]))
    outer = inner + 4
    lines = []
    for panel in above:
        lines += _box(panel.title, _lines(panel) or ["nobody"], outer)
    drawn: set[str] = set()
    for index, vpc in enumerate(shown.vpcs):
        if index or above:
            lines.append("" if index or not vpc.has_gateway else "│".center(outer + 4))
        if vpc.has_gateway:
            lines.append("internet gateway".center(outer + 4))
            lines += [f"edge  {row.text}".center(outer + 4) for row in vpc.edge]
            lines.append("│".center(outer + 4))
        lines += _vpc(shown, vpc, inner, drawn)
    lines = _joined(shown, lines, outer)
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _vpc(shown: Picture, vpc: VpcPicture, inner: int, drawn: set[str]) -> list[str]:
    """The VPC on the left; on the right the load balancers that its endpoints lead to."""
    inside: list[str] = []
    arrows: list[tuple[int, str]] = []
    for panel in vpc.subnets:
        arrows += [
            (len(inside) + 2 + index, row.to)  # below two borders, the VPC's and the subnet's
            for index, row in enumerate(panel.rows)
            if row.kind == "endpoint"
        ]
        inside += _box(panel.title, _lines(panel) or ["empty"], inner)
    left = _box(vpc.title, inside, inner + 4)
    channel = max(10, *(len(name) + 6 for name in shown.gateways))
    right: list[str] = []
    rows: dict[str, range] = {}
    for row, gateway in arrows:
        if gateway not in drawn:
            drawn.add(gateway)
            panel = shown.gateways[gateway]
            right += [""] * (row - 1 - len(right))
            first = len(right)
            right += _box(panel.title, _lines(panel), 0)
            rows[gateway] = range(first + 1, len(right) - 1)
        straight = row in rows.get(gateway, ())
        arrow = "─" * (channel - 1) + "▶" if straight else f"──▶ {gateway}"
        left[row] = left[row][:-3] + "┼─┼" + arrow
    left += [""] * (len(right) - len(left))
    right += [""] * (len(left) - len(right))
    width = inner + 8 + channel
    return [here.ljust(width) + there for here, there in zip(left, right, strict=True)]


def _joined(shown: Picture, lines: list[str], outer: int) -> list[str]:
    """Below everything the transit gateways, each with a line on the left to its attachments."""
    if not shown.transit_gateways:
        return lines
    rows = [row for vpc in shown.vpcs for panel in vpc.subnets for row in panel.rows]
    leads = iter(row.to for row in rows if row.kind == "attachment")
    ends = {i: next(leads) for i, line in enumerate(lines) if line.startswith(_ATTACHED)}
    for name, panel in shown.transit_gateways.items():
        ends[len(lines) + 2] = name
        lines = [*lines, "", *_box(panel.title, _lines(panel), outer)]
    spans = {name: [i for i, end in ends.items() if end == name] for name in shown.transit_gateways}
    return [
        _gutter(index, spans, ends.get(index, "")) + (_through(line) if index in ends else line)
        for index, line in enumerate(lines)
    ]


def _gutter(index: int, spans: dict[str, list[int]], end: str) -> str:
    """What stands left of a line: a column for each transit gateway."""
    signs = [" "] * (2 * len(spans) + 1)
    for column, rows in enumerate(spans.values()):
        if rows[0] < index < rows[-1]:
            signs[2 * column] = "│"
    if end:
        first = 2 * list(spans).index(end)
        rows = spans[end]
        for at in range(first + 1, len(signs)):
            signs[at] = "┼" if signs[at] == "│" else "─"
        if index == rows[-1]:
            signs[-1] = "▶"
        signs[first] = "┌" if index == rows[0] else "└" if index == rows[-1] else "├"
    return "".join(signs)


def _through(line: str) -> str:
    """A line whose attachment is joined across the borders; a transit gateway's has one border."""
    return "┼─┼" + line[3:] if line.startswith(_ATTACHED) else line


def _lines(panel: Panel) -> list[str]:
    return [MARKS[row.kind] + row.text for row in panel.rows]


def _needed(panel: Panel) -> int:
    return max(len(panel.title) + 2, *(len(line) for line in _lines(panel)), 0)


def _box(title: str, lines: list[str], width: int) -> list[str]:
    inner = max(width, len(title) + 2, *(len(line) for line in lines))
    top = f"┌ {title} " + "─" * (inner - len(title)) + "┐"
    return [top, *(f"│ {line.ljust(inner)} │" for line in lines), "└" + "─" * (inner + 2) + "┘"]
