"""What a benchmark says: figures with their spread, and whether they reach their goals."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Series(NamedTuple):
    """One thing measured in several runs."""

    unit: str
    runs: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median of the runs; nan if there are none."""
        return statistics.median(self.runs) if self.runs else float("nan")

    @property
    def least(self) -> float:
        """The smallest run."""
        return min(self.runs, default=float("nan"))

    @property
    def most(self) -> float:
        """The largest run."""
        return max(self.runs, default=float("nan"))

    def over(self, other: Series) -> Series:
        """The ratio to another one, run by run: these were measured side by side."""
        pairs = zip(self.runs, other.runs, strict=False)
        return Series("x", tuple(mine / theirs for mine, theirs in pairs if theirs))


class Target(NamedTuple):
    """A goal and what came of it."""

    name: str
    unit: str
    goal: float
    at_least: bool
    """The goal is the least that will do; False: the most."""
    measured: float
    runs: tuple[float, ...] = ()
    """The same of single runs, to show how far they lie apart."""

    @property
    def ok(self) -> bool:
        """Whether the goal is reached; a figure that could not be had does not reach it."""
        return self.measured >= self.goal if self.at_least else self.measured <= self.goal


class Row(NamedTuple):
    """A line of a table: one contestant or one case, with what was measured of it."""

    name: str
    values: Mapping[str, Series]
    remark: str = ""


class Result(NamedTuple):
    """What one scenario came to."""

    scenario: str
    title: str
    rows: Sequence[Row]
    targets: Sequence[Target] = ()
    notes: Sequence[str] = ()


def target_of(
    name: str, series: Series, goal: float, *, at_least: bool = True, unit: str = ""
) -> Target:
    """A target that is judged by the run that was disturbed least, see `_compared`."""
    best = series.most if at_least else series.least
    return Target(name, unit or series.unit, goal, at_least, best, series.runs)


def speed_target(name: str, cost: Series, other: Series, goal: float) -> Target:
    """How many times as fast as another one: by what both cost, so many times at least."""
    return _compared(name, other, cost, goal, at_least=True)


def cost_target(name: str, cost: Series, other: Series, goal: float) -> Target:
    """What it costs in terms of another one, so many times at most."""
    return _compared(name, cost, other, goal, at_least=False)


def _compared(name: str, above: Series, below: Series, goal: float, *, at_least: bool) -> Target:
    """The ratio of the least costs: of the runs that were disturbed least, one of each.

    Neighbours on a machine only ever take something away, and by the second: medians of two
    contestants may be of two different machines (see `timeit.Timer.repeat` in Python's library).
    """
    ratio = above.least / below.least if below.least else float("nan")
    return Target(name, "x", goal, at_least, ratio, above.over(below).runs)


def as_plain(results: Sequence[Result]) -> dict[str, Any]:
    """Results and targets as they stand in a JSON file."""
    return {
        "targets": [
            {
                "name": target.name,
                "scenario": result.scenario,
                "unit": target.unit,
                "goal": target.goal,
                "at_least": target.at_least,
                "measured": _number(target.measured),
                "runs": [_number(run) for run in target.runs],
                "ok": target.ok,
            }
            for result in results
            for target in result.targets
        ],
        "results": [
            {
                "scenario": result.scenario,
                "title": result.title,
                "rows": [
                    {
                        "name": row.name,
                        "remark": row.remark,
                        "values": {name: _plain(series) for name, series in row.values.items()},
                    }
                    for row in result.rows
                ],
                "notes": list(result.notes),
            }
            for result in results
        ],
    }


def _plain(series: Series) -> dict[str, Any]:
    return {
        "unit": series.unit,
        "median": _number(series.median),
        "least": _number(series.least),
        "most": _number(series.most),
        "runs": [_number(run) for run in series.runs],
    }


def _number(value: float) -> float | None:
    """JSON has no nan."""
    return None if value != value else float(f"{value:.6g}")
