"""The scenario of a flood: more than can be answered, for longer than health has patience."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from appliance_sdk.bench.contestants import Appliance
from appliance_sdk.bench.figures import Result, Row, Series, Target, target_of
from appliance_sdk.bench.generator import Sent
from appliance_sdk.bench.lab import Entry, Lab
from appliance_sdk.bench.load import Load
from appliance_sdk.bench.measures import RATE, rates
from appliance_sdk.errors import HarnessError

_ASK_S = 0.25
_FEW = 32


class Asked(NamedTuple):
    """One health check during the flood."""

    state: str
    """"" if it got no answer in time."""
    seconds: float
    status: int = 0


def overload(lab: Lab) -> Result:
    """As much as the generator has, one handler: what is still answered, and what health says.

    A thread of the kernel's receives on the appliance's own core, which is what a flood takes away;
    once as urgent as the appliance (nice 0), and once, if there is time and without a goal, less
    urgent (nice -20).
    """
    notes = []
    with contextlib.ExitStack() as receiving:
        try:
            receiving.enter_context(lab.network.received_by_thread(lab.cores.of(1)))
        except HarnessError as error:
            notes.append(f"received on the load balancer's core: {error}")
        with lab.usual_priority():
            usual = _measure(lab, "nice 0")
        wanted = lab.pace.thorough and lab.network.can_prefer
        urgent = _measure(lab, "nice -20") if wanted else None
    rows = [row for one in (usual, urgent) if one is not None for row in one.rows()]
    peak = Series("1/s", (usual.peak.median,))
    name = "answered in a flood, against its own peak"
    targets = [
        target_of(name, Series("1/s", (usual.flood.rate,)).over(peak), 0.3),
        Target("health checks that succeed in a flood", "", 1.0, True, usual.alive),
        Target("health says degraded in it", "", 1.0, True, float("degraded" in usual.states)),
        Target("healthy again after it", "", 1.0, True, float(usual.recovered)),
    ]
    for one in (usual, urgent):
        if one is not None:
            notes += one.notes()
    return Result("overload", "A flood of 512-byte packets, 1,000 flows", rows, targets, notes)


class Flooded(NamedTuple):
    """What became of one appliance."""

    name: str
    peak: Series
    flood: Sent
    asked: Sequence[Asked]
    socket_drops: int
    """As the appliance has counted them."""
    backlog_drops: int
    recovered: bool

    @property
    def alive(self) -> float:
        """The share of the health checks that succeeded."""
        return sum(one.status == 200 for one in self.asked) / len(self.asked) if self.asked else 0.0

    @property
    def states(self) -> set[str]:
        """What health said, "" where it said nothing."""
        return {one.state for one in self.asked}

    def rows(self) -> list[Row]:
        """Lines of the table."""
        flood = self.flood
        offered = Series("1/s", (flood.sent / flood.seconds,))
        remark = "all that the device took" if flood.refused else ""
        return [
            Row(f"{self.name}: own peak", {RATE: self.peak}),
            Row(f"{self.name}: offered in the flood", {RATE: offered}, remark),
            Row(f"{self.name}: answered", {RATE: Series("1/s", (flood.rate,))}),
        ]

    def notes(self) -> list[str]:
        """What else there is to say."""
        states = ", ".join(sorted(state or "no answer" for state in self.states))
        longest = max((one.seconds for one in self.asked), default=0.0)
        return [
            f"{self.name}: health said {states} in {len(self.asked)} checks; the slowest took "
            f"{1000 * longest:,.0f} ms",
            f"{self.name}: of {self.flood.sent:,} packets {self.flood.lost:,} were lost: "
            f"{self.socket_drops:,} at the full socket, which the appliance counts, "
            f"{self.backlog_drops:,} at the kernel's backlog",
        ]


def _measure(lab: Lab, name: str) -> Flooded:
    appliance = lab.appliance(name, "One")
    entry = Entry(name, appliance, Load())
    with lab.started(appliance):
        peak = rates(lab.saturate([entry], lab.pace.steady_repeats)[name])
        before, backlog = appliance.counters(), _backlog_drops()
        lab.say(f"{name}: a flood of {lab.pace.flood_s:g} s")
        flood, asked = _flood(lab, entry, appliance)
        # The kernel tells of what it dropped with the next packet that it does not drop.
        lab.send(entry, window=_FEW, seconds=60.0, packets=_FEW)
        after = appliance.counters()
        return Flooded(
            name,
            peak,
            flood,
            asked,
            after["kernel_drops"] - before["kernel_drops"],
            _backlog_drops() - backlog,
            appliance.health()[0] == 200,
        )


def _flood(lab: Lab, entry: Entry, appliance: Appliance) -> tuple[Sent, list[Asked]]:
    load = entry.load._replace(seconds=lab.pace.flood_s)
    sending = lab.start(appliance, load)
    asked = []
    try:
        while sending.running:
            asked.append(_ask(appliance))
            time.sleep(_ASK_S)
        sent = sending.finish()
    finally:
        sending.stop()
    lab.tally.add(entry.name, sent)
    return sent, asked


def _ask(appliance: Appliance) -> Asked:
    began = time.monotonic()
    try:
        status, details = appliance.health()
    except OSError:
        return Asked("", time.monotonic() - began)
    return Asked(details["state"], time.monotonic() - began, status)


def _backlog_drops() -> int:
    """Packets that found the backlog of a core full, on this machine (second column, in hex)."""
    lines = Path("/proc/net/softnet_stat").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1], 16) for line in lines)
