"""Text for terminals: aligned tables, verdicts in colour, balances of packets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import click

COLOURS = {
    "forward": "green",
    "allow": "green",
    "block": "red",
    "reject": "magenta",
    "drop": "yellow",
}


def table(
    rows: Sequence[Sequence[str]],
    style: Callable[[str, str], str] = lambda padded, cell: padded,
    *,
    right: Sequence[int] = (),
) -> list[str]:
    """Lines with the columns side by side; the first row is the header. `right`: those columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
            padded = cell.rjust(width) if index in right else cell.ljust(width)
            cells.append(style(padded, cell))
        lines.append("  ".join(cells).rstrip())
    return lines


def coloured(padded: str, cell: str) -> str:
    """A style for `table`: verdicts in colour, on a terminal."""
    colour = COLOURS.get(cell)
    return click.style(padded, fg=colour) if colour else padded


def balance(packets: int, forwarded: int, dropped: Mapping[str, int]) -> str:
    """`N packets = A forwarded + B dropped`, with the reasons."""
    total = sum(dropped.values())
    text = f"{packets:,} packets read = {forwarded:,} forwarded + {total:,} dropped"
    reasons = sorted(dropped.items(), key=lambda item: (-item[1], item[0]))
    if reasons:
        text += " (" + ", ".join(f"{name} {count:,}" for name, count in reasons) + ")"
    return text
