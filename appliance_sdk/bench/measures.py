"""From runs to the lines of a table."""

from __future__ import annotations

from collections.abc import Sequence

from appliance_sdk.bench.figures import Row, Series
from appliance_sdk.bench.generator import Sent
from appliance_sdk.bench.lab import Entry, Lab

RATE, LOSSLESS = "packets/s", "without loss"
RATIO, SHARE = "x naive", "of the C loop"
PROCESS, CORE = "CPU us", "core us"
P50, P99, P999 = "p50 us", "p99 us", "p99.9 us"

COLUMNS = {
    RATE: "right replies a second with 512 packets under way, all that the contestant can take",
    RATIO: "of that to the naive loop's, measured in turn with it",
    SHARE: "of that to the C loop's, likewise",
    LOSSLESS: "the highest rate at which every packet came back",
    PROCESS: "processor time of its processes per reply, at saturation or the rate that is named",
    CORE: "time that its core was not idle per reply, kernel included, at half load or that rate",
    P50: "time from sending to the reply, at half load or that rate: the median",
    P99: "99 of 100",
    P999: "999 of 1,000",
}
"""What the columns of the tables are."""


def rates(runs: Sequence[Sent]) -> Series:
    """Right replies a second."""
    return Series("1/s", tuple(run.rate for run in runs))


def process_us(runs: Sequence[Sent]) -> Series:
    """Processor time of its processes per reply."""
    return Series("us", tuple(run.process_us for run in runs))


def saturation_row(
    name: str, runs: Sequence[Sent], naive: Series | None = None, ceiling: Series | None = None
) -> Row:
    """A line with what a contestant took at most, also in terms of the two loops."""
    values = {RATE: rates(runs)}
    for column, loop in ((RATIO, naive), (SHARE, ceiling)):
        if loop is not None:
            values[column] = values[RATE].over(loop)
    if any(run.process_s for run in runs):
        values[PROCESS] = process_us(runs)
    return Row(name, values, _remark(runs))


def at_half_load(lab: Lab, entries: Sequence[Entry], rows: list[Row]) -> list[Row]:
    """Add to each row what its entry takes, and how long, at half of its own saturation."""
    found = lab.steady(entries, {row.name: row.values[RATE].median / 2 for row in rows})
    return [row._replace(values={**row.values, **steady_values(found[row.name])}) for row in rows]


def steady_values(runs: Sequence[Sent]) -> dict[str, Series]:
    """What a reply takes of the core, and how long, at a steady rate."""
    return {
        CORE: Series("us", tuple(run.busy_us for run in runs)),
        P50: Series("us", tuple(run.latency_us.p50 for run in runs)),
        P99: Series("us", tuple(run.latency_us.p99 for run in runs)),
        P999: Series("us", tuple(run.latency_us.p999 for run in runs)),
    }


def without_loss(lab: Lab, entries: Sequence[Entry], rows: list[Row]) -> list[Row]:
    """Add to each row the highest rate at which its entry lost nothing."""
    peaks = {row.name: row.values[RATE].median for row in rows}
    found = lab.search(entries, peaks)
    return [
        row._replace(values={**row.values, LOSSLESS: Series("1/s", (found[row.name],))})
        for row in rows
    ]


def _remark(runs: Sequence[Sent]) -> str:
    remarks = []
    if sum(run.held == 0 for run in runs) * 2 > len(runs):
        remarks.append("as fast as the generator")
    return ", ".join([*remarks, *losses(runs)])


def losses(runs: Sequence[Sent]) -> list[str]:
    """What is to be said of requests without a reply, if there were any."""
    lost = sum(run.lost for run in runs)
    return [f"{lost:,} lost"] if lost else []
