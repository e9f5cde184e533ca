"""Scenarios about single packets: who is asked about them, how long they are, what they carry."""

from __future__ import annotations

from appliance_sdk.bench.figures import Result, Row, speed_target
from appliance_sdk.bench.lab import C_LOOP, Entry, Lab
from appliance_sdk.bench.load import Load
from appliance_sdk.bench.measures import (
    PROCESS,
    at_half_load,
    losses,
    process_us,
    rates,
    saturation_row,
    steady_values,
    without_loss,
)

SIZES = (64, 512, 1400, 8500)
LIGHT = 5_000.0
"""Packets a second: no contestant needs the time between two of them."""
_TCP = Load(tcp=True, open_rounds=3)
_IPV6 = Load(ipv6=True)

NAIVE = "naive loop"
BYPASSED, ONE, THREE = "bypassed", "one handler", "three plugins' handlers"
UNPRIVILEGED, STREAM = "one handler, unprivileged", "stream handler (TCP)"
_GOALS = (
    ("bypassed flows", BYPASSED, 1.0),
    ("one handler called for each packet", ONE, 0.85),
    ("three plugins' handlers", THREE, 0.8),
    ("unprivileged reply sockets, one handler", UNPRIVILEGED, 0.7),
)
_OF_THE_CEILING = ("bypassed flows", BYPASSED, 0.45)


def handlers(lab: Lab) -> Result:
    """What asking costs: no handler, one, three plugins', one that reads the TCP stream.

    Beside them the naive loop and the C loop, between which a data plane in Python has its place.
    """
    entries = [
        Entry(NAIVE, lab.naive(), Load()),
        Entry(BYPASSED, lab.appliance(BYPASSED), Load()),
        Entry(ONE, lab.appliance(ONE, "One"), Load()),
        Entry(THREE, lab.appliance(THREE, "One", "Two", "Three"), Load()),
        Entry(UNPRIVILEGED, lab.appliance(UNPRIVILEGED, "One", raw=False), Load()),
        Entry(STREAM, lab.appliance(STREAM, "Stream"), _TCP),
    ]
    for one in (lab.c_loop(), lab.hairpin()):
        if one is not None:
            entries.append(Entry(one.name, one, Load()))
    with lab.started(*(entry.contestant for entry in entries)):
        runs = lab.saturate(entries)
        naive = rates(runs[NAIVE])
        ceiling = rates(runs[C_LOOP]) if C_LOOP in runs else None
        rows = [saturation_row(one.name, runs[one.name], naive, ceiling) for one in entries]
        rows = without_loss(lab, entries, rows)
        rows = at_half_load(lab, entries, rows)
    cost = {name: process_us(found) for name, found in runs.items()}
    targets = [
        speed_target(f"{name}, against the naive loop", cost[who], cost[NAIVE], goal)
        for name, who, goal in _GOALS
    ]
    if ceiling is not None:
        name, who, goal = _OF_THE_CEILING
        targets.append(speed_target(f"{name}, of the C loop", cost[who], cost[C_LOOP], goal))
    notes = [f"{name}: left out: {why}" for name, why in lab.missing.items()]
    return Result("handlers", "512-byte packets of 1,000 flows, one core", rows, targets, notes)


def light(lab: Lab) -> Result:
    """What a packet costs where there is time between any two: each wakes its appliance alone."""
    entries = [
        Entry(NAIVE, lab.naive(), Load()),
        Entry(BYPASSED, lab.appliance(BYPASSED), Load()),
    ]
    notes = []
    if lab.pace.thorough:
        entries += [
            Entry(ONE, lab.appliance(ONE, "One"), Load()),
            Entry(UNPRIVILEGED, lab.appliance(UNPRIVILEGED, "One", raw=False), Load()),
        ]
        c_loop = lab.c_loop()
        if c_loop is not None:
            entries.append(Entry(C_LOOP, c_loop, Load()))
        else:
            notes.append(f"{C_LOOP}: left out: {lab.missing[C_LOOP]}")
    with lab.started(*(entry.contestant for entry in entries)):
        runs = lab.steady(entries, dict.fromkeys((entry.name for entry in entries), LIGHT))
    rows = [
        Row(name, {PROCESS: process_us(found), **steady_values(found)}, "".join(losses(found)))
        for name, found in runs.items()
    ]
    title = f"{LIGHT:,.0f} packets/s, 512 bytes, 1,000 flows, one core"
    return Result("light", title, rows, (), notes)


def sizes(lab: Lab) -> Result:
    """Inner packets of 64, 512, 1,400 and 8,500 bytes, one handler."""
    naive, appliance = lab.naive(), lab.appliance(ONE, "One")
    entries = [
        Entry(f"{size:,} bytes, {who.name}", who, Load(size=size))
        for size in SIZES
        for who in (naive, appliance)
    ]
    with lab.started(naive, appliance):
        runs = lab.saturate(entries, lab.pace.steady_repeats)
    rows: list[Row] = []
    for size in SIZES:
        mine, theirs = f"{size:,} bytes, {ONE}", f"{size:,} bytes, {NAIVE}"
        yardstick = rates(runs[theirs])
        rows += [saturation_row(name, runs[name], yardstick) for name in (theirs, mine)]
    return Result("sizes", "Packets of four sizes, 1,000 flows, one core", rows)


def protocols(lab: Lab) -> Result:
    """Bypassed flows of UDP, TCP and IPv6, beside the naive loop."""
    naive, appliance = lab.naive(), lab.appliance(BYPASSED)
    entries = [
        Entry(NAIVE, naive, Load()),
        Entry("UDP", appliance, Load()),
        Entry("TCP", appliance, _TCP),
        Entry("UDP in IPv6", appliance, _IPV6),
    ]
    with lab.started(naive, appliance):
        runs = lab.saturate(entries, lab.pace.steady_repeats)
    yardstick = rates(runs[NAIVE])
    rows = [saturation_row(entry.name, runs[entry.name], yardstick) for entry in entries]
    return Result("protocols", "Bypassed, 512 bytes, 1,000 flows, one core", rows)
