"""Scenarios about many: flows, new flows, workers."""

from __future__ import annotations

from appliance_sdk.bench.figures import Result, Series, cost_target, target_of
from appliance_sdk.bench.generator import Sent
from appliance_sdk.bench.lab import WINDOW, Entry, Lab
from appliance_sdk.bench.load import Load
from appliance_sdk.bench.measures import PROCESS, process_us, saturation_row
from appliance_sdk.errors import HarnessError

FEW, SOME = 1_000, 100_000
NEW_FLOWS = "new flows/CPU s"
_TRIES = 3
_FULL = 10_000
"""Flows of the table that is full."""


def flows(lab: Lab) -> Result:
    """A thousand flows, a hundred thousand, a million: what a packet costs then."""
    many = lab.pace.many_flows
    entries = []
    for count in sorted({FEW, SOME, many}):
        settings = {"max_flows": count + 10_000, "other_idle_s": 3600}
        appliance = lab.appliance(f"{count:,} flows", engine=settings)
        load = Load(flows=count, one_way=True, open_rounds=1)
        entries.append(Entry(appliance.name, appliance, load))
    with lab.started(*(entry.contestant for entry in entries)):
        for entry in entries:
            _open(lab, entry)
        again = [entry._replace(load=entry.load._replace(open_rounds=0)) for entry in entries]
        runs = lab.saturate(again)
    rows = [saturation_row(entry.name, runs[entry.name]) for entry in entries]
    costs = [process_us(runs[entry.name]) for entry in entries]
    name = f"CPU time per packet, {many:,} against {FEW:,} flows"
    target = cost_target(name, costs[-1], costs[0], 1.6)
    return Result("flows", "Bypassed, 512 bytes, one core", rows, [target])


def storm(lab: Lab) -> Result:
    """Every packet is a new flow, and a plugin is asked about each."""
    room = {"max_flows": 4_000_000}
    full = {"max_flows": _FULL}
    entries = [
        Entry("UDP", lab.appliance("UDP", "Agree", engine=room), Load(flows=0)),
        Entry("TCP SYN", lab.appliance("TCP SYN", "Agree", engine=room), Load(flows=0, tcp=True)),
        Entry(
            "TCP SYN, table full",
            lab.appliance("table full", "Agree", engine=full),
            Load(flows=0, tcp=True),
        ),
    ]
    with lab.started(*(entry.contestant for entry in entries)):
        lab.say("filling the table")
        lab.send(entries[-1], window=WINDOW, seconds=60.0, packets=_FULL + WINDOW)
        runs = lab.saturate(entries)
    rows = [
        saturation_row(entry.name, runs[entry.name])._replace(
            values={NEW_FLOWS: _per_cpu_second(runs[entry.name])}
        )
        for entry in entries
    ]
    target = target_of("new flows with one plugin", rows[1].values[NEW_FLOWS], 40_000)
    return Result("storm", "Every packet another flow, one core", rows, [target])


def workers(lab: Lab) -> Result:
    """One worker and two, one handler: what a packet costs when processes share the port."""
    entries = []
    for count in (1, 2):
        name = f"{count} worker{'s' if count > 1 else ''}"
        entries.append(Entry(name, lab.appliance(name, "One", workers=count), Load()))
    with lab.started(*(entry.contestant for entry in entries)):
        runs = lab.saturate(entries)
    rows = [saturation_row(entry.name, runs[entry.name]) for entry in entries]
    one, two = (row.values[PROCESS] for row in rows)
    name = "CPU time per packet, two workers against one"
    target = cost_target(name, two, one, 1.15)
    notes = []
    if len(lab.cores.of(2)) < 2:
        notes.append("two workers had to share one core: only their processor time can be compared")
    return Result("workers", "512-byte packets of 1,000 flows", rows, [target], notes)


def _open(lab: Lab, entry: Entry) -> None:
    """Send each flow a packet, once more if one was lost."""
    opened = 0
    for _ in range(_TRIES):
        lab.say(f"{entry.name}: opening them")
        opened = lab.send(entry, seconds=0.0).opened
        if opened == entry.load.flows:
            return
    raise HarnessError(f"{entry.name}: only {opened:,} could be opened")


def _per_cpu_second(runs: list[Sent]) -> Series:
    found = (run.answered_in_time / run.process_s for run in runs if run.process_s)
    return Series("1/s", tuple(found))
