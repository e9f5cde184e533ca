"""The page `docs/performance.md`, from one run of the benchmark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from appliance_sdk.bench.cells import cell, columns, target_rows
from appliance_sdk.bench.figures import Result
from appliance_sdk.bench.measures import COLUMNS
from appliance_sdk.bench.report import Report

_HEAD = """\
# Performance

How fast the socket data path is, measured by `appliance bench` against a loop that does nothing but
answer. This page is written by such a run:

```sh
sudo .venv/bin/appliance bench --page docs/performance.md --svg docs/performance.svg
```

Figures of another machine are others. What carries over are ratios within one run: the contestants
answer the same packets in turn (A B C, A B C, ...), so that noise hits all alike. A cell is the
median of the runs, with the least and the most of them in brackets.
"""
_METHOD = """\
## How it is measured

Two network namespaces joined by a veth pair, made for the run and removed after it. In one, a
generator plays the load balancer: it sends GENEVE as GWLB does, one UDP source port a flow, every
other round from the server's side. In the other run the contestants, each at an address of its own:
appliances as processes with a configuration file (`appliance run`), the naive loop
(`appliance_sdk/bench/naive.py`: `recvfrom_into`, one dictionary look-up, one counter, raw `sendto`,
no check of anything), and an XDP program that sends every packet back unseen.

Every reply is checked: outer addresses and ports, the 40 bytes of GENEVE, the inner headers, the
number of the packet, and that it comes once; one in a thousand byte for byte. A wrong one fails the
run.
"""
_MISSING = """\
Not measured: GWLB itself, and network cards (a veth pair has neither queues nor interrupts).
"""


def write_page(report: Report, picture: str = "") -> str:
    """The Markdown. `picture` is the chart's address as seen from the page, "" if there is none."""
    return "\n".join(_page(report, picture))


def _page(report: Report, picture: str) -> Iterator[str]:
    yield _HEAD
    if picture:
        yield f"![Packets a second of each contestant]({picture})\n"
    rows = target_rows(report.results)
    if len(rows) > 1:
        yield "## Targets\n"
        yield from _table(rows)
    yield "## The machine\n"
    yield from _table([("", ""), *report.conditions.items()])
    yield _METHOD
    yield from _columns(report.results)
    yield _MISSING
    for result in report.results:
        yield f"## {result.title}\n"
        yield from _result(result)


def _columns(results: Sequence[Result]) -> Iterator[str]:
    used = {name for result in results for name in columns(result)}
    rows = [("column", "meaning"), *(pair for pair in COLUMNS.items() if pair[0] in used)]
    if len(rows) > 1:
        yield from _table(rows)


def _result(result: Result) -> Iterator[str]:
    if result.scenario != "checker":
        yield f"`appliance bench {result.scenario}`\n"
    names = columns(result)
    remarks = any(row.remark for row in result.rows)
    table = [["", *names, *([""] if remarks else [])]]
    for row in result.rows:
        cells = [cell(row.values.get(name)) for name in names]
        table.append([row.name, *cells, *([row.remark] if remarks else [])])
    yield from _table(table)
    for note in result.notes:
        yield f"- {note}"
    if result.notes:
        yield ""


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    head, *rest = rows
    yield "| " + " | ".join(head) + " |"
    yield "|---" * len(head) + "|"
    for row in rest:
        yield "| " + " | ".join(row) + " |"
    yield ""
