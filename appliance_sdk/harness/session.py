"""A harness that runs for its user: traffic between all hosts, and a line on what becomes of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from appliance_sdk.harness.capture_file import CaptureFile
from appliance_sdk.harness.fault_text import format_fault
from appliance_sdk.harness.harness import Harness
from appliance_sdk.harness.hosts import Host, HttpExchange, Ping, http_get
from appliance_sdk.harness.reasons import REASONS, ROUTE_REASONS
from appliance_sdk.harness.states import State
from appliance_sdk.harness.subprocesses import Subprocess
from appliance_sdk.harness.topology import AlbService, HostPart, HttpService, Topology
from appliance_sdk.harness.udp_fleet import UdpFleet

START_S = 60.0
"""Real seconds that an appliance may take until it is healthy."""
_ANSWER_S = 3.0
"""Real seconds that a ping or a request may take."""


class _Asked(NamedTuple):
    what: str
    began: float
    ping: Ping | None
    exchange: HttpExchange | None


class Session:
    """Runs a topology over UDP; `command`, if given, is started for each target."""

    def __init__(
        self,
        topology: Topology,
        command: str,
        *,
        factor: float,
        write: Callable[[str], None],
        capture: Path | None = None,
        capture_at: Collection[str] = (),
    ) -> None:
        self._write = write
        self._topology = topology
        targets = {
            target.name: (name, target)
            for name in topology.gateways
            for target in topology.targets(name)
        }
        nodes = {name: topology.nodes(name) for name in topology.gateways}
        processes = {}
        if command:
            for name, (gateway, _target) in targets.items():
                port = topology.gateways[gateway].health_check.port
                processes[name] = Subprocess(command, health_port=port)
        self._processes = processes
        addresses = [node for zones in nodes.values() for node in zones.values()]
        self._fleet = UdpFleet(addresses, processes, factor=factor)
        self.harness = Harness(topology, self._fleet, factor=factor, trace_limit=1000)
        self._capture: CaptureFile | None = None
        if capture is not None:
            try:
                self._capture = self.harness.capture(capture, capture_at, complain=write)
            except BaseException:
                self.harness.close()
                raise
        self._asked: list[_Asked] = []
        self._told = 0
        self._faults_told = 0
        self._dead: set[str] = set()
        self.results: Counter[str] = Counter()
        """"answered", "refused", "no answer"."""
        if factor != 1:
            write(f"the clock runs {factor:g} times as fast as the real one")
        for name, (gateway, target) in targets.items():
            check = topology.gateways[gateway].health_check
            asked = f"{check.protocol} {target.address}:{check.port}"
            asked += check.path if check.protocol != "TCP" else ""
            write(
                f"{gateway}: target {name} at {target.address}, UDP 6081; health {asked}; "
                f"packets come from {nodes[gateway][target.zone]}"
            )

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.harness.close()

    @property
    def came_through(self) -> bool:
        """Something was answered."""
        return self.results["answered"] > 0

    def run(
        self,
        *,
        seconds: float,
        rate: float,
        trace: bool,
        quiet: bool,
        start_timeout_s: float = START_S,
    ) -> None:
        """Until Ctrl-C, or for so many real seconds from when every load balancer has a healthy
        target. If that takes too long, it says which are not and stops; so it does when all that
        was started has ended. What was not started here may take its time if nothing is to end."""
        harness = self.harness
        waits = not self._processes and not seconds
        came_up = False
        end = math.inf if waits else harness.now + start_timeout_s * harness.factor
        due = harness.now
        while harness.now < end and not self._all_ended():
            if harness.now >= due:
                due = harness.now + harness.factor / max(rate, 0.01)
                if self._some_healthy():
                    if not came_up:
                        came_up = True
                        end = harness.now + seconds * harness.factor if seconds else math.inf
                    self._ask()
            harness.run(lambda: bool(self._ended()), min(due, end) - harness.now)
            self._tell_changes()
            self._tell_faults()
            self._look()
            self._collect(quiet)
            if trace:
                if len(harness.trace):
                    self._write(harness.trace.text().rstrip("\n"))
                harness.trace.clear()
        if not came_up and not self._all_ended():
            self._tell_unhealthy(start_timeout_s)

    def report(self) -> None:
        """What came of it all, and why packets were dropped."""
        harness = self.harness
        results = ", ".join(f"{count} {what}" for what, count in sorted(self.results.items()))
        self._write(f"traffic: {results or 'none was sent: no target was healthy'}")
        for name, gateway in harness.gateways.items():
            new = ", ".join(f"{t} {count}" for t, count in sorted(gateway.new_flows.items()))
            self._write(f"{name}: new flows {new or 'none'}")
        for reason, count in sorted(harness.drops.items()):
            meaning = REASONS.get(reason) or ROUTE_REASONS.get(reason, "")
            self._write(f"dropped {count} times, {reason}: {meaning}".rstrip(": "))
        if self._capture is not None and not self._capture.failed:
            self._write(f"{self._capture.packets} packets are in {self._capture.path}")
        for name, counts in sorted(harness.faults.counts.items()):
            what = ", ".join(f"{fault} {count}" for fault, count in sorted(counts.items()))
            self._write(f"faults of {name}, in packets: {what}")
        for name, count in sorted(self._fleet.errors.items()):
            self._write(f"{count} datagrams could not be sent: {name}")

    def _some_healthy(self) -> bool:
        return all(
            any(gateway.targets.state(t.name) is State.HEALTHY for t in gateway.targets)
            for gateway in self.harness.gateways.values()
        )

    def _ask(self) -> None:
        parts = self._topology.hosts
        for name, here in parts.items():
            for other, there in parts.items():
                mine = {":" in address for address in here.addresses}
                for address in self._reachable(here, there):
                    if (":" in address) in mine:
                        self._send(self.harness.hosts[name], name, other, address, self.harness.now)

    def _reachable(self, here: HostPart, there: HostPart) -> list[str]:
        """Where hosts on the internet find those in VPCs, and those of VPCs each other."""
        if there.vpc and not here.vpc:
            public = [there.public] if there.public else []
            return public + [address for address in there.addresses if ":" in address]
        for gateway in self._topology.transit_gateways.values():
            if {here.vpc, there.vpc} <= {place.vpc for place in gateway.attachments.values()}:
                return list(there.addresses) if here.vpc != there.vpc else []
        return []

    def _send(self, client: Host, name: str, other: str, address: str, now: float) -> None:
        ping = client.ping(address, now)
        self._asked.append(_Asked(f"{name} pings {other} ({address})", now, ping, None))
        for service in self._topology.hosts[other].services:
            if isinstance(service, HttpService | AlbService):
                exchange = http_get(client, address, service.port, "/", now)
                what = f"{name} asks {other} ({address}:{service.port})"
                self._asked.append(_Asked(what, now, None, exchange))

    def _ended(self) -> list[_Asked]:
        patience = _ANSWER_S * self.harness.factor
        return [
            asked
            for asked in self._asked
            if self._result(asked) or self.harness.now - asked.began > patience
        ]

    def _result(self, asked: _Asked) -> str:
        if asked.ping is not None:
            if asked.ping.replies:
                return "answered"
            return "refused" if asked.ping.unreachable else ""
        assert asked.exchange is not None
        if asked.exchange.failed:
            return f"refused ({asked.exchange.failed})"
        return f"answered {asked.exchange.status}" if asked.exchange.done else ""

    def _collect(self, quiet: bool) -> None:
        for asked in self._ended():
            self._asked.remove(asked)
            result = self._result(asked) or "no answer"
            kind = result if result == "no answer" else result.split()[0]
            self.results[kind] += 1
            if not quiet:
                took = (self.harness.now - asked.began) / self.harness.factor * 1000
                self._write(f"{asked.what}: {result}, {took:.1f} ms")

    def _tell_changes(self) -> None:
        for change in self.harness.changes[self._told :]:
            reason = f" ({change.reason})" if change.reason else ""
            self._write(f"{change.target} is {change.state} in zone {change.zone}{reason}")
        self._told = len(self.harness.changes)

    def _tell_faults(self) -> None:
        for happening in self.harness.happenings[self._faults_told :]:
            verb = "begins" if happening.began else "ends"
            self._write(f"fault {verb}: {format_fault(happening.fault)}")
        self._faults_told = len(self.harness.happenings)

    def _tell_unhealthy(self, patience_s: float) -> None:
        reasons = self.harness.last_checks
        for gateway in self.harness.gateways.values():
            for target in gateway.targets:
                if gateway.targets.state(target.name) is State.HEALTHY:
                    continue
                said = f"{target.name} is not healthy after {patience_s:g} s"
                if reasons.get(target.name):
                    said += f" ({reasons[target.name]})"
                process = self._processes.get(target.name)
                if process is not None and process.ended() is None:
                    said += f"; it runs, and printed: {process.tail() or 'nothing'}"
                self._write(said)

    def _look(self) -> None:
        for name in self._processes:
            how = self._fleet.ended(name)
            if how and name not in self._dead:
                self._dead.add(name)
                self._write(f"{name} {how}")

    def _all_ended(self) -> bool:
        return bool(self._processes) and len(self._dead) == len(self._processes)
