"""From what a test's `appliance` fixture returns to a harness around it."""

from __future__ import annotations

from typing import Any

import msgspec

from appliance_sdk.errors import HarnessError
from appliance_sdk.harness import (
    Harness,
    InProcess,
    MemoryFleet,
    Running,
    Subprocess,
    Topology,
    UdpFleet,
    free_loopback,
)
from appliance_sdk.harness.datagrams import Capture
from appliance_sdk.harness.processes import ApplianceProcess
from appliance_sdk.plugin.base import Plugin

UDP_FACTOR = 5.0
"""Over UDP the harness's clock runs faster than the real one: a test that waits for nothing to
happen must wait for TCP to lose patience."""


def open_harness(
    appliance: Any, plane: str, topology: Topology, capture: Capture | None = None
) -> Harness:
    """A harness with this appliance behind every target. Raises HarnessError."""
    if isinstance(appliance, type) and issubclass(appliance, Plugin):
        appliance = InProcess(appliance)
    if plane == "memory":
        if not isinstance(appliance, InProcess):
            kind = type(appliance).__name__
            raise HarnessError(
                f"{kind} runs outside this process: use --gwlb-plane=udp, or return a Plugin class"
            )
        return Harness(topology, MemoryFleet({"": appliance}), tap=capture)
    if plane != "udp":
        raise HarnessError(f"no plane {plane!r}: memory or udp")
    topology = msgspec.structs.replace(topology, loopback=free_loopback())
    if isinstance(appliance, Running):
        topology = _pointed_at(topology, appliance)
    targets = [target.name for name in topology.gateways for target in topology.targets(name)]
    port = next(iter(topology.gateways.values())).health_check.port
    processes: dict[str, ApplianceProcess] = {}
    for name in targets:
        if isinstance(appliance, InProcess):
            processes[name] = appliance.forked(port)
        elif isinstance(appliance, Subprocess):
            if appliance.netns:
                raise HarnessError("netns is for the conformance suite; a harness has none")
            processes[name] = appliance.again(port)
        elif not isinstance(appliance, Running):
            kind = type(appliance).__name__
            raise HarnessError(f"`appliance` is a {kind}: neither a plugin nor what runs one")
    nodes = [node for name in topology.gateways for node in topology.nodes(name).values()]
    fleet = UdpFleet(nodes, processes, factor=UDP_FACTOR)
    return Harness(topology, fleet, factor=UDP_FACTOR, tap=capture)


def _pointed_at(topology: Topology, running: Running) -> Topology:
    """The topology with its one target at the address of what runs already."""
    gateways = {}
    for name, gateway in topology.gateways.items():
        if len(gateway.targets) != 1 or len(topology.gateways) != 1:
            raise HarnessError("Running(…) is one appliance; the topology has several targets")
        target = next(iter(gateway.targets))
        part = msgspec.structs.replace(gateway.targets[target], address=running.address)
        check = msgspec.structs.replace(
            gateway.health_check, port=running.health_port, path=running.health_path
        )
        gateways[name] = msgspec.structs.replace(
            gateway, targets={target: part}, health_check=check
        )
    return msgspec.structs.replace(topology, gateways=gateways)
