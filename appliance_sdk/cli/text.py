"""Text for terminals: aligned tables, verdicts in colour, balances of packets."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence

import click

COLOURS = {
    "forward": "green",
    "allow": "green",
    "block": "red",
    "reject": "magenta",
    "drop": "yellow",
}

NARROWEST = 24
"""Columns of the terminal in which a cell is still legible when it is wrapped."""
BELOW = " " * 9
"""What stands before a cell that went below its row: the width of a verdict."""


def table(
    rows: Sequence[Sequence[str]],
    style: Callable[[str, str], str] = lambda padded, cell: padded,
    *,
    right: Sequence[int] = (),
) -> list[str]:
    """Lines with the columns side by side; the first row is the header. `right`: those columns.

    On a terminal a last column that does not fit goes on below itself, or below its row.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
            padded = cell.rjust(width) if index in right else cell.ljust(width)
            cells.append(style(padded, cell))
        first, *below = _pieces(row[-1], sum(widths[:-1]) + 2 * len(widths) - 2)
        if below:
            cells[-1] = first
        lines.extend(["  ".join(cells).rstrip(), *below])
    return lines


def _pieces(cell: str, start: int) -> list[str]:
    """The last cell of a row, as what fits behind `start` and the lines below."""
    if not sys.stdout.isatty():
        return [cell]
    columns = shutil.get_terminal_size().columns
    if start + len(cell) <= columns:
        return [cell]
    room = columns - start
    if room < NARROWEST:
        return ["", *(BELOW + line for line in textwrap.wrap(cell, max(columns - len(BELOW), 1)))]
    first, *rest = textwrap.wrap(cell, room)
    return [first, *(" " * start + line for line in rest)]


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
