"""Scenarios without a network: the engine alone, its memory, and the local load balancer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import msgspec

from appliance_sdk.bench.engine_cost import CASES
from appliance_sdk.bench.figures import Result, Row, Series, Target, target_of
from appliance_sdk.bench.growth import Grown
from appliance_sdk.bench.lab import Lab
from appliance_sdk.bench.priority import prefer
from appliance_sdk.errors import HarnessError
from appliance_sdk.harness.workload import Connections, RoundTrips
from appliance_sdk.server.orphan import die_with_parent

COST, INSTRUCTIONS = "CPU us/packet", "instructions/packet"
_COUNTED = 6_400, 640
"""Packets judged in the two runs whose instructions are compared."""
_TRIPS_GOAL = 60_000.0
_HOURS_GOAL_S = 60 / 24
"""Processor seconds that an hour of the load balancer's clock may take."""


def engine(lab: Lab) -> Result:
    """The engine alone: processor time and, if valgrind is there, instructions per packet."""
    times: dict[str, list[float]] = {case: [] for case in CASES}
    for number in range(lab.pace.steady_repeats):
        for case in CASES:
            lab.say(f"{case}: run {number + 1} of {lab.pace.steady_repeats}")
            module = ("-m", "appliance_sdk.bench.engine_cost", case, str(lab.pace.judged))
            times[case].append(float(_output(lab, [sys.executable, *module])))
    counts: dict[str, Series] = {}
    notes = []
    if shutil.which("valgrind") is None:
        notes.append("instructions are not counted: valgrind is not installed")
    elif not lab.pace.thorough:
        notes.append("instructions are not counted in a quick run")
    else:
        for case in CASES:
            lab.say(f"{case}: counting instructions")
            counts[case] = Series("", (_instructions(lab, case),))
    rows = []
    for case in CASES:
        values = {COST: Series("us", tuple(times[case]))}
        if case in counts:
            values[INSTRUCTIONS] = counts[case]
        rows.append(Row(case, values))
    return Result("engine", "The engine alone, in process, 64 flows", rows, (), notes)


def growth(lab: Lab) -> Result:
    """Memory of a million TCP flows, and the longest stops while they come and go."""
    flows = lab.pace.many_flows
    lab.say(f"growing to {flows:,} TCP flows")
    command = [sys.executable, "-m", "appliance_sdk.bench.growth", str(flows)]
    grown = msgspec.json.decode(_output(lab, command), type=Grown)
    rows = []
    for name, (median, late, longest) in (
        ("growing", grown.growing_us),
        ("holding", grown.holding_us),
    ):
        values = {"median us": median, "p99.99 us": late, "longest us": longest}
        rows.append(Row(name, {key: Series("us", (value,)) for key, value in values.items()}))
    memory = Series("bytes", (grown.bytes_per_flow,))
    pause = Series("ms", (grown.pause_us / 1000,))
    targets = [
        target_of(f"memory of a TCP flow, {flows:,} of them", memory, 700, at_least=False),
        target_of("stop between two batches, p99.99", pause, 10, at_least=False),
    ]
    notes = [f"{grown.batches:,} batches of 64 packets; {grown.expired:,} flows expired meanwhile"]
    return Result("growth", f"Growing to {flows:,} flows and holding them", rows, targets, notes)


def harness(lab: Lab) -> Result:
    """The local load balancer alone: packets in memory, every check on, no trace.

    A round trip is a packet from an endpoint to a target and back. A day is 24 hours of TCP
    connections, 5 new ones a second, 6 packets each.
    """
    pace = lab.pace
    lab.say("the local load balancer")
    trips = _timed(RoundTrips(pace.packets).run, pace.repeats)
    days = _timed(Connections(pace.hours).run, pace.days)
    rates = Series("1/s", tuple(pace.packets / took for took in trips))
    name = f"{pace.hours:g} hours, 5 flows/s"
    lasted = Series("s", tuple(days))
    goal = _HOURS_GOAL_S * pace.hours
    targets: list[Target] = [
        target_of("round trips", rates, _TRIPS_GOAL),
        target_of(name, lasted, goal, at_least=False),
    ]
    rows = [Row("round trips", {"per CPU s": rates}), Row(name, {"CPU s": lasted})]
    return Result("harness", "The local load balancer", rows, targets)


def _timed(run: Callable[[], object], repeats: int) -> list[float]:
    """The processor seconds of each run."""
    took = []
    for _ in range(repeats):
        began = time.process_time()
        run()
        took.append(time.process_time() - began)
    return took


def _instructions(lab: Lab, case: str) -> float:
    """Per packet: what the longer of two runs takes more."""
    built = str(max(_COUNTED))
    counted = []
    for judged in _COUNTED:
        tool = ["valgrind", "--tool=cachegrind", "--cache-sim=no"]
        tool.append(f"--cachegrind-out-file={lab.folder / 'cachegrind'}")
        module = ["-m", "appliance_sdk.bench.engine_cost", case, built, str(judged)]
        _output(lab, [*tool, sys.executable, *module])
        lines = (lab.folder / "cachegrind").read_text(encoding="utf-8").splitlines()
        summary = next(line for line in lines if line.startswith("summary:"))
        counted.append(int(summary.split()[1]))
    return (counted[0] - counted[1]) / (_COUNTED[0] - _COUNTED[1])


def _output(lab: Lab, command: Sequence[str]) -> str:
    """What a process of ours prints, run on an appliance's core. Raises HarnessError."""

    def enter() -> None:
        die_with_parent()
        os.sched_setaffinity(0, lab.cores.appliances[:1])
        prefer(os.getpid())

    done = subprocess.run(
        command,
        preexec_fn=enter,
        start_new_session=True,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise HarnessError(f"{' '.join(command)}: {said[-1] if said else done.returncode}")
    return done.stdout
