"""Shipped topologies with a mistake in them, what is said about it, and the way of each packet."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec

from appliance_sdk import Appliance, Flow, Outcome, Verdict
from appliance_sdk.harness import (
    Harness,
    InProcess,
    MemoryFleet,
    Topology,
    Transit,
)

SHIPPED = Path(__file__).parents[2] / "appliance_sdk" / "harness" / "topologies"
EDGE = 'edge = { "10.0.1.0/24" = "gwlbe", "fd00:10:0:1::/64" = "gwlbe" }'
SERVERS = 'servers = { "0.0.0.0/0" = "gwlbe", "::/0" = "gwlbe" }'
"""Lines of the topology `simple`."""


class LetThrough(Appliance):
    def flow_opened(self, flow: Flow) -> Outcome:
        return Verdict.DONE


def changed(name: str, *changes: tuple[str, str]) -> Topology:
    """A shipped topology with something in its file written differently."""
    text = (SHIPPED / f"{name}.toml").read_text()
    for right, wrong in changes:
        assert right in text
        text = text.replace(right, wrong)
    return msgspec.convert(tomllib.loads(text), Topology)


def run(topology: Topology, **options: Any) -> Harness:
    harness = Harness(topology, MemoryFleet({"": InProcess(LetThrough)}), **options)
    harness.wait_healthy()
    return harness


def way(packet: Transit) -> str:
    """Where a packet was, in a line, and why it was dropped if it was."""
    seen = [hop.place for hop in packet.hops if hop.event not in ("returned", "decapsulated")]
    last = packet.hops[-1]
    return " ".join(
        [*seen, *([last.detail.split(":")[0].split(".")[0]] if last.event == "dropped" else [])]
    )


def ways(harness: Harness) -> list[str]:
    return [way(packet) for packet in harness.trace]


def last_words(harness: Harness, reason: str) -> str:
    """What the trace says of the first packet that was dropped for a reason."""
    details = (packet.hops[-1].detail for packet in harness.trace)
    return next(detail for detail in details if detail.startswith(reason))


def said(topology: Topology) -> list[str]:
    topology.check()  # AWS would take it
    return [str(finding) for finding in topology.warnings()]
