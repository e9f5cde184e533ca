"""A topology as boxes and arrows in a terminal."""

from __future__ import annotations

from appliance_sdk.harness.drawing import Panel, Picture, VpcPicture, picture
from appliance_sdk.harness.topology import Topology

_WIDTH = 60
"""Columns of the text in a subnet's box; longer lines make all of them wider."""
_MARKS = {"host": "▪ ", "endpoint": "◇ ", "route": "    ", "node": "○ ", "target": "● "}


def draw_text(topology: Topology) -> str:
    """The picture, some 110 columns wide."""
    shown = picture(topology)
    panels = [panel for vpc in shown.vpcs for panel in vpc.subnets]
    inner = max(_WIDTH, *(_needed(panel) for panel in [shown.internet, *panels]))
    outer = inner + 4
    lines = _box(shown.internet.title, _lines(shown.internet) or ["nobody"], outer)
    drawn: set[str] = set()
    for index, vpc in enumerate(shown.vpcs):
        lines.append("" if index else "│".center(outer + 4))
        if vpc.has_gateway:
            lines.append("internet gateway".center(outer + 4))
            lines += [f"edge  {row.text}".center(outer + 4) for row in vpc.edge]
            lines.append("│".center(outer + 4))
        lines += _vpc(shown, vpc, inner, drawn)
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _vpc(shown: Picture, vpc: VpcPicture, inner: int, drawn: set[str]) -> list[str]:
    """The VPC on the left; on the right the load balancers that its endpoints lead to."""
    inside: list[str] = []
    arrows: list[tuple[int, str]] = []
    for panel in vpc.subnets:
        arrows += [
            (len(inside) + 2 + index, row.gateway)  # below two borders, the VPC's and the subnet's
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


def _lines(panel: Panel) -> list[str]:
    return [_MARKS[row.kind] + row.text for row in panel.rows]


def _needed(panel: Panel) -> int:
    return max(len(panel.title) + 2, *(len(line) for line in _lines(panel)), 0)


def _box(title: str, lines: list[str], width: int) -> list[str]:
    inner = max(width, len(title) + 2, *(len(line) for line in lines))
    top = f"┌ {title} " + "─" * (inner - len(title)) + "┐"
    return [top, *(f"│ {line.ljust(inner)} │" for line in lines), "└" + "─" * (inner + 2) + "┘"]
