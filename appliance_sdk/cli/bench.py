"""`bench`: how fast it is here, against what it has to be."""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import click

from appliance_sdk.cli.text import table
from appliance_sdk.errors import HarnessError
from appliance_sdk.version import __version__

_HOURS_GOAL_S = 60 / 24
"""Processor seconds that an hour of the load balancer's clock may take."""


class Result(NamedTuple):
    """What one goal came to: `goal` in `unit`, one figure for each run."""

    name: str
    unit: str
    goal: float
    at_least: bool
    """The goal is the least that will do; False: the most."""
    runs: Sequence[float]

    @property
    def measured(self) -> float:
        """The median of the runs."""
        return statistics.median(self.runs)

    @property
    def ok(self) -> bool:
        """The median reaches the goal."""
        return self.measured >= self.goal if self.at_least else self.measured <= self.goal


@click.group()
def bench() -> None:
    """Measure this machine against the SDK's goals; exit 1 if one is not reached.

    Times are processor seconds of one core, so that a busy machine disturbs them little.
    """


@bench.command()
@click.option("--packets", default=100_000, help="Round trips of the first measurement.")
@click.option("--hours", default=24.0, help="Of the load balancer's clock, in the second.")
@click.option("--repeats", default=3, help="Runs of each; the median counts.")
@click.option(
    "--json",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the figures to a file as well; - for standard output.",
)
def harness(packets: int, hours: float, repeats: int, path: Path | None) -> None:
    """The local load balancer alone: packets in memory, every check on, no trace.

    A round trip is a packet from an endpoint to a target and back. A day is 24 hours of TCP
    connections, 5 new ones a second, 6 packets each.
    """
    from appliance_sdk.harness.workload import Connections, RoundTrips

    if packets < 1 or hours <= 0 or repeats < 1:
        raise click.UsageError("--packets, --hours and --repeats must be more than nothing")
    trips = RoundTrips(packets)
    seconds = _timed(trips.run, repeats)
    rates = [packets / took for took in seconds]
    connections = Connections(hours)
    seconds = _timed(connections.run, repeats)
    day = f"{hours:g} hours, 5 flows/s"
    report(
        "harness",
        [
            Result("round trips", "1/s", 60_000, True, rates),
            Result(day, "s", _HOURS_GOAL_S * hours, False, seconds),
        ],
        path,
    )


def report(scenario: str, results: Sequence[Result], path: Path | None) -> None:
    """Show the figures, write them where they are wanted, exit 1 if a goal is not reached."""
    data = {
        "scenario": scenario,
        "version": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "targets": [
            {
                "name": result.name,
                "unit": result.unit,
                "goal": result.goal,
                "at_least": result.at_least,
                "measured": result.measured,
                "runs": list(result.runs),
                "ok": result.ok,
            }
            for result in results
        ],
    }
    text = json.dumps(data, indent=2)
    if path is not None and str(path) != "-":
        try:
            path.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise HarnessError(f"{path}: {error.strerror}") from None
    if path is not None and str(path) == "-":
        click.echo(text)
    else:
        rows: list[tuple[str, ...]] = [("goal", "unit", "needed", "median", "least", "most", "")]
        rows += [_row(result) for result in results]
        for line in table(rows, right=(2, 3, 4, 5)):
            click.echo(line)
    if not all(result.ok for result in results):
        sys.exit(1)


def _row(result: Result) -> tuple[str, ...]:
    figures = [result.goal, result.measured, min(result.runs), max(result.runs)]
    shown = [f"{figure:,.0f}" if figure >= 1000 else f"{figure:,.3g}" for figure in figures]
    return (result.name, result.unit, *shown, "ok" if result.ok else "too slow")


def _timed(run: Callable[[], object], repeats: int) -> list[float]:
    """The processor seconds of each run."""
    took = []
    for _ in range(repeats):
        began = time.process_time()
        run()
        took.append(time.process_time() - began)
    return took
