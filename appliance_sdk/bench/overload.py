"""The scenario of a flood: more than can be answered, for longer than health has patience."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

from appliance_sdk.bench.contestants import Appliance
from appliance_sdk.bench.figures import Result, Row, Series, Target, ratio_target
from appliance_sdk.bench.generator import Load, Sent
from appliance_sdk.bench.lab import Entry, Lab
from appliance_sdk.bench.measures import RATE, rates

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

    Here the appliance's own core receives: it is what a flood takes away.
    """
    name = "one handler"
    appliance = lab.appliance(name, "One")
    entry = Entry(name, appliance, Load())
    with lab.flooding(), lab.started(appliance):
        peak = rates(lab.saturate([entry])[name])
        before, backlog = appliance.counters(), _backlog_drops()
        lab.say(f"a flood of {lab.pace.flood_s:g} s")
        flood, asked = _flood(lab, entry, appliance)
        # The kernel tells of what it dropped with the next packet that it does not drop.
        lab.send(entry, window=_FEW, seconds=60.0, packets=_FEW)
        after = appliance.counters()
        backlog = _backlog_drops() - backlog
        recovered = appliance.health()[0] == 200
    answered = Series("1/s", (flood.rate,))
    rows = [
        Row("own peak", {RATE: peak}),
        Row("offered in the flood", {RATE: Series("1/s", (flood.sent / flood.seconds,))}),
        Row("answered in the flood", {RATE: answered}),
    ]
    alive = sum(one.status == 200 for one in asked)
    share = alive / len(asked) if asked else 0.0
    degraded = float(any(one.state == "degraded" for one in asked))
    targets = [
        ratio_target("answered in a flood, against its own peak", answered, peak, 0.3),
        Target("health checks that succeed in a flood", "", 1.0, True, share),
        Target("health says degraded in it", "", 1.0, True, degraded),
        Target("healthy again after it", "", 1.0, True, float(recovered)),
    ]
    states = ", ".join(sorted({one.state or "no answer" for one in asked}))
    longest = max((one.seconds for one in asked), default=0.0)
    kernel = after["kernel_drops"] - before["kernel_drops"]
    lost = flood.lost
    notes = [
        f"health said {states} in {len(asked)} checks; the slowest took {1000 * longest:,.0f} ms",
        f"of {flood.sent:,} packets {lost:,} were lost: {kernel:,} at the full socket, which the "
        f"appliance counts, {backlog:,} before it, at the kernel's backlog",
    ]
    return Result("overload", "A flood of 512-byte packets, 1,000 flows", rows, targets, notes)


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
