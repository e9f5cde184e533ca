"""A whole run of the benchmark: what was measured, where, and with what."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from appliance_sdk.bench.cells import number
from appliance_sdk.bench.figures import Result, as_plain
from appliance_sdk.bench.lab import QUICK, Lab
from appliance_sdk.bench.machine import describe_machine
from appliance_sdk.bench.processors import Processors
from appliance_sdk.bench.scenarios import Scenario

_LOOK_S = 1.0


class Report(NamedTuple):
    """Everything that is shown, written and drawn."""

    results: Sequence[Result]
    conditions: dict[str, str]
    """The machine, the generator, how the cores were shared, when and how thoroughly."""

    @property
    def ok(self) -> bool:
        """Whether every target is reached."""
        return all(target.ok for result in self.results for target in result.targets)

    def as_json(self) -> str:
        """The text of a JSON file: conditions, targets, results."""
        plain: dict[str, Any] = {"conditions": self.conditions, **as_plain(self.results)}
        return json.dumps(plain, indent=2) + "\n"


def run_scenarios(lab: Lab, scenarios: Sequence[Scenario]) -> Report:
    """Run them in order. Raises HarnessError if one cannot be run."""
    conditions = describe_machine()
    conditions["date"] = time.strftime("%Y-%m-%d")
    conditions["run"] = (
        "quick"
        if lab.pace == QUICK
        else f"{lab.pace.repeats} runs at saturation, {lab.pace.steady_repeats} of the rest"
    )
    lab.say("how busy is this machine?")
    conditions["busy before"] = f"{_busy(_LOOK_S):.0%} of the cores"
    results = []
    for turn, scenario in enumerate(scenarios, 1):
        lab.topic = f"{turn} of {len(scenarios)}, {scenario.name}: "
        results.append(_measured(lab, scenario))
    if any(scenario.needs_root for scenario in scenarios):
        conditions.update(_network_conditions(lab))
        results.append(lab.tally.result())
    return Report(results, conditions)


def _measured(lab: Lab, scenario: Scenario) -> Result:
    """What a scenario came to; asked once more if it misses a goal, for a neighbour may have
    disturbed all of it. What was reached once is reached, and a note says what was not."""
    first = scenario.run(lab)
    if all(target.ok for target in first.targets):
        return first
    lab.topic += "a goal was missed, once more: "
    second = scenario.run(lab)
    pairs = list(zip(first.targets, second.targets, strict=True))
    targets = [one if one.ok else two for one, two in pairs]
    notes = [
        f"measured twice, the first time: {one.name}: {number(one.measured)} {one.unit}".rstrip()
        for one, _ in pairs
        if not one.ok
    ]
    return second._replace(targets=targets, notes=[*second.notes, *notes])


def _network_conditions(lab: Lab) -> dict[str, str]:
    generator = lab.generator
    cores = lab.cores
    placed = f"load balancer on {_list(cores.gwlb)}, appliances on {_list(cores.of(2))}"
    if cores.shared:
        placed = "one for everything: the generator takes from what it measures"
    return {
        "generator": generator.kind + (f" ({generator.why})" if generator.why else ""),
        "placement": placed,
        "receiving": "requests on the load balancer's core, replies on the appliances'",
        "priority": "before other work, but in a flood" if lab.network.can_prefer else "usual",
    }


def _list(cores: Sequence[int]) -> str:
    return "core" + ("s " if len(cores) > 1 else " ") + ", ".join(map(str, cores))


def _busy(seconds: float) -> float:
    """The share of the time that the cores we may use are not idle, though we do nothing."""
    cores = sorted(os.sched_getaffinity(0))
    processors = Processors((), cores)
    time.sleep(seconds)
    return processors.used().busy_s / seconds / len(cores)
