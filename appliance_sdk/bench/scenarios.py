"""The scenarios: a name, what it measures, and the function that does it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from appliance_sdk.bench import in_process, overload, packets, scale
from appliance_sdk.bench.figures import Result
from appliance_sdk.bench.lab import Lab


class Scenario(NamedTuple):
    """One measurement of the benchmark."""

    name: str
    measures: str
    run: Callable[[Lab], Result]
    needs_root: bool
    """It makes network namespaces."""


SCENARIOS = (
    Scenario("handlers", "no handler, one, three, a stream's; naive loop", packets.handlers, True),
    Scenario("light", "few packets, each of which wakes the appliance", packets.light, True),
    Scenario("protocols", "bypassed UDP, TCP and IPv6", packets.protocols, True),
    Scenario("sizes", "inner packets of 64 to 8,500 bytes", packets.sizes, True),
    Scenario("flows", "a thousand flows to a million", scale.flows, True),
    Scenario("storm", "every packet a new flow", scale.storm, True),
    Scenario("workers", "one worker and two", scale.workers, True),
    Scenario("overload", "a flood: what is answered, what health says", overload.overload, True),
    Scenario(
        "engine", "the engine alone; with valgrind, its instructions", in_process.engine, False
    ),
    Scenario("growth", "memory and stops up to a million TCP flows", in_process.growth, False),
    Scenario("harness", "the local load balancer", in_process.harness, False),
)
