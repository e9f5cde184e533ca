"""The demo's stage: one topology, three kinds of processes, and a load that never stops."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from appliance_sdk.demo.load import Load
from appliance_sdk.demo.show import Show
from appliance_sdk.harness import (
    Harness,
    State,
    Subprocess,
    UdpFleet,
    free_loopback,
    shipped_topology,
)
from appliance_sdk.harness.hosts import Host
from appliance_sdk.harness.scratch import scratch_folder

FACTOR = 5.0
"""The demo's clock runs five times as fast: health checks every 5 s come every second."""
SITE = "catagram.io"
"""Only a Host header: nothing is resolved."""
SITE_ADDRESS = "198.51.100.10"
FIREWALLS, IDS = "firewalls", "ids"
HEALTH_PORT = 8080

_CONFIG = """\
origins = ["{origins}"]
enable = ["{enable}"]
[listen]
addresses = ["{address}"]
[health]
address = "{address}"
port = {health_port}
[events]
file = "{events}"
[log]
format = "console"
level = "warning"
[drain]
deadline_s = 30
quiet_s = 1
settle_s = 3
[plugins.{plugin}]
{settings}
"""


class Stage:
    """Everything that the scenes act on."""

    def __init__(self, show: Show, folder: Path) -> None:
        self.show = show
        self.folder = folder
        for file in ("policy.toml", "attacks.rules"):
            text = resources.files("appliance_sdk.demo").joinpath(file).read_text(encoding="utf-8")
            (folder / file).write_text(text, encoding="utf-8")
        topology = shipped_topology("inline-ids")
        self.topology = msgspec.structs.replace(topology, loopback=free_loopback())
        self.processes = {
            target.name: self._process(gateway, target.name, target.address)
            for gateway in (FIREWALLS, IDS)
            for target in self.topology.targets(gateway)
        }
        nodes = [
            node
            for gateway in self.topology.gateways
            for node in self.topology.nodes(gateway).values()
        ]
        fleet = UdpFleet(nodes, self.processes, factor=FACTOR)
        self.harness = Harness(self.topology, fleet, factor=FACTOR)
        self.load = Load(self.harness, self.client, SITE, SITE_ADDRESS)

    @property
    def client(self) -> Host:
        """The host on the internet."""
        return self.harness.hosts["client"]

    def run(self, until: Callable[[], bool], timeout_s: float) -> bool:
        """Let it all go on until something is so, at most so many real seconds."""

        def reached() -> bool:
            self.load.turn(self.harness.now)
            self.show.refresh()
            return until()

        return self.harness.run(reached, timeout_s * FACTOR)

    def pause(self, seconds: float) -> None:
        """Let it all go on for so many real seconds."""
        self.run(lambda: False, seconds)

    def state(self, target: str) -> State:
        """What a target's load balancer thinks of it."""
        gateway = IDS if target.startswith("ids") else FIREWALLS
        return self.harness.state(gateway, target)

    def flows_of(self, target: str) -> int:
        """Live flows that stick to a target."""
        gateways = self.harness.gateways.values()
        return sum(entry.target.name == target for gw in gateways for entry in gw.flows)

    def target_of(self, host: Host, port: int) -> str:
        """The firewall that a connection, by its client's port, sticks to; "" if none."""
        for entry in self.harness.gateways[FIREWALLS].flows:
            if port in entry.key[3:]:
                return entry.target.name
        return ""

    def events(self, target: str, kind: str) -> list[dict[str, Any]]:
        """The EVE events of one kind that an appliance has written so far."""
        path = self.folder / f"{target}.eve.json"
        if not path.exists():
            return []
        lines = path.read_text(encoding="utf-8").splitlines()
        events = []
        for line in lines:
            with contextlib.suppress(json.JSONDecodeError):  # the last one may be half written
                events.append(json.loads(line))
        return [event for event in events if event.get("event_type") == kind]

    def add_firewall(self, name: str) -> None:
        """Start one more and register it."""
        number = len(self.topology.targets(FIREWALLS))
        address = f"{self.topology.loopback}.0.{101 + number}"
        process = self._process(FIREWALLS, name, address)
        self.processes[name] = process
        fleet = self.harness.fleet
        assert isinstance(fleet, UdpFleet)
        fleet.processes[name] = process
        self.harness.add_target(FIREWALLS, name, address, "a")

    def drain(self, name: str) -> None:
        """Tell an appliance to finish what it has and leave."""
        self.processes[name].signal(signal.SIGTERM)

    def close(self) -> None:
        """End every process."""
        self.harness.close()

    def complaints(self) -> list[str]:
        """What the appliances printed, for a demo that failed."""
        return [f"{n}: {p.tail()}" for n, p in self.processes.items() if p.tail()]

    def _process(self, gateway: str, name: str, address: str) -> Subprocess:
        plugin = "ids" if gateway == IDS else "firewall"
        if plugin == "ids":
            settings = f'rules = ["{self.folder}/attacks.rules"]\nmode = "ips"'
        else:
            settings = f'policy = "{self.folder}/policy.toml"'
        config = self.folder / f"{name}.toml"
        text = _CONFIG.format(
            origins=f"{self.topology.loopback}.0.0/16",
            enable=_PLUGINS[plugin],
            address=address,
            health_port=HEALTH_PORT,
            events=self.folder / f"{name}.eve.json",
            plugin=plugin,
            settings=settings,
        )
        config.write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "appliance_sdk", "run", str(config)]
        return Subprocess(command, health_port=HEALTH_PORT, log=self.folder / f"{name}.log")


_PLUGINS = {
    "firewall": "reference_appliances.firewall:Firewall",
    "ids": "reference_appliances.ids:Ids",
}


@contextlib.contextmanager
def open_stage(show: Show) -> Iterator[Stage]:
    """A stage in a folder of its own; both are gone afterwards, whatever happens."""
    with scratch_folder("appliance-demo-") as folder:
        stage = Stage(show, folder)
        try:
            yield stage
        finally:
            stage.close()
