"""The page that follows one packet: written from a run, so that it cannot be wrong."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from appliance_sdk.harness import Harness, InProcess, MemoryFleet, shipped_topology
from appliance_sdk.harness.draw_text import draw_text
from appliance_sdk.harness.hosts import http_get
from appliance_sdk.harness.trace import Transit
from reference_appliances.firewall import Firewall
from reference_appliances.ids import Ids

TEMPLATE = Path(__file__).with_name("packet-walk.template.md")


def walk_page() -> str:
    """The whole page."""
    topology = shipped_topology("inline-ids")
    there, back = walk()
    page = TEMPLATE.read_text(encoding="utf-8")
    return page.format(picture=draw_text(topology), there=text(there), back=text(back))


def walk() -> tuple[Transit, Transit]:
    """A request and its answer, in memory: the same in every run."""
    folder = resources.files("appliance_sdk.demo")
    with (
        resources.as_file(folder / "policy.toml") as policy,
        resources.as_file(folder / "attacks.rules") as rules,
    ):
        firewall = InProcess(Firewall, policy=str(policy))
        ips = InProcess(Ids, rules=[str(rules)], mode="ips")
        fleet = MemoryFleet({"": firewall, "ids-1": ips})
        with Harness(shipped_topology("inline-ids"), fleet) as harness:
            harness.wait_healthy()
            exchange = http_get(harness.hosts["client"], "198.51.100.10", 80, "/", harness.now)
            harness.run()
            assert exchange.status == 200
            there = next(p for p in harness.trace if b"GET /" in p.first)
            back = next(
                p for p in harness.trace if b" 200 " in p.first and p.hops[-1].place == "client"
            )
            return there, back


def text(packet: Transit) -> str:
    """The packet's way, a hop a line."""
    return "".join(f"{line}\n" for line in packet.lines(packet.hops[0].time))
