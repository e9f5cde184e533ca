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

A target is judged by the runs that were disturbed least. Neighbours on a machine only ever take
something away, and by the second: what is left in between is what a contestant can do (`timeit` in
Python's library says the same of its own runs). A ratio compares what two contestants cost, in
processor time per reply, by the best run of each: medians may be of two different machines. What
misses a goal is measured once more, and says so.
"""
_METHOD = """\
## How it is measured

Two network namespaces joined by a veth pair, made for the run and removed after it. In one, a
generator plays the load balancer: it sends GENEVE as GWLB does, one UDP source port a flow, every
other round from the server's side. In the other run the contestants, each at an address of its own:
appliances as processes with a configuration file (`appliance run`), and three others:

- the naive loop (`appliance_sdk/bench/naive.py`): `recvfrom_into`, one dictionary look-up, one
  counter, raw `sendto`, no check of anything; Python
- the C loop (`appliance_sdk/bench/helper/loop.c`): the same compiled, with 64 packets to a system
  call (`recvmmsg`, `sendmmsg`): all that a UDP socket and a raw socket can give
- the hairpin: an XDP program that sends every packet back unseen, without any socket

A request is received by the kernel on the generator's core, as if by a network card whose
interrupts go to another core; a reply, up to the generator's memory, on the appliance's core, where
a card's driver would work instead. Nothing is handed from core to core in between (RPS): that is an
interrupt between processors for single packets, which costs a virtual machine more than all that is
to be measured, and no card needs it.

In a flood the appliance's own core receives, for there it is the point: in a thread of the kernel's
(threaded NAPI), from a ring that drops what the thread leaves lying. Had interrupts to do it, they
would go before every program, and packets would be thrown away at the price of those that could be
answered: a C program fares no better then. `docs/operations.md` says how to set that up.

Generator and contestants run before all other work of the machine (nice -20), so that neighbours
disturb them little; in a flood first with the usual priority, which the kernel's thread has too.

Every reply is checked: outer addresses and ports, the 40 bytes of GENEVE, the inner headers, the
number of the packet, and that it comes once; one in a thousand byte for byte. A wrong one fails the
run.
"""
_MISSING = """\
Not measured: GWLB itself, and network cards (a veth pair has neither queues nor interrupts).
"""
_GOALS = """\
## Where the goals come from

The SDK does for each packet what the naive loop does, and parses, checks, tracks and asks plugins
besides; it pays for that with what it saves in system calls. How much there is to save the C loop
shows: its ratio to the naive loop is the most that these sockets can give to anybody, and the part
of it that an interpreter leaves is the SDK's. The first goals, 2.5 times the naive loop and less
with handlers, came from prototypes that were measured in a lab with RPS: there the naive loop paid
an interrupt between processors for every packet and a batch did not. Without those interrupts not
even the C loop gets there, so these goals said nothing of the SDK and were given up. Those of today
are what the present data path reaches on the slower of two kinds of machines (of the C loop 0.53 on
an Intel Xeon at 2.5 GHz, where a newer AMD EPYC gives 0.72), less the sixth that a neighbour on the
same core takes from an interpreter more than from a kernel: a regression misses them, and they are
no limit of what can be had. The others (flows, memory, new flows, workers, floods, stops) are those
that the SDK was designed for.
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
        yield _GOALS
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
