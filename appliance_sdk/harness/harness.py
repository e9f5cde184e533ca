"""The whole picture running: hosts, routes, load balancers, health checks and appliances."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from types import TracebackType

from appliance_sdk.errors import HarnessError
from appliance_sdk.harness.agenda import Agenda
from appliance_sdk.harness.balancer import GatewayLoadBalancer
from appliance_sdk.harness.capture_file import CaptureFile, places_of
from appliance_sdk.harness.checks import HealthChecks, Probe
from appliance_sdk.harness.faults import Fault, Faults, Happening
from appliance_sdk.harness.fleet import Arrival, Fleet, ProbeResult
from appliance_sdk.harness.hosts import Host
from appliance_sdk.harness.metrics import DataPoint
from appliance_sdk.harness.network import Network
from appliance_sdk.harness.outcomes import ToTarget
from appliance_sdk.harness.population import populate
from appliance_sdk.harness.states import TIMED_OUT, Change, State, Target
from appliance_sdk.harness.topology import Topology
from appliance_sdk.harness.trace import Trace
from appliance_sdk.plugin.config import near_miss

Tap = Callable[[float, str, tuple[str, int], tuple[str, int], bytes], None]
"""Called with time, "to_target" or "from_target", source, destination and payload."""

_KEPT_S = 0.5
"""Real seconds after which a packet that an appliance has not returned counts as kept."""
_LONGEST_WAIT_S = 0.02
_LEAP_PATIENCE_S = 1.0
_STANDSTILL = 100_000
"""Turns without any time passing after which somebody answers himself for ever."""
_NOT_HEALTHY = (State.INITIAL, State.UNHEALTHY, State.UNAVAILABLE)
_TURNS = 64
"""How often what came is followed by what comes because of it, before hosts have their turn."""


class Harness:
    """Runs a topology over a fleet of appliances.

    With a fleet in memory time is virtual: it leaps to the next thing that happens, and the same
    seed gives the same trace, to the byte. Over UDP it passes by itself, `factor` times as fast as
    the real one. Nothing happens outside `run` and the methods that call it.
    """

    def __init__(
        self,
        topology: Topology,
        fleet: Fleet,
        *,
        factor: float = 1.0,
        trace_limit: int = 10_000,
        tap: Tap | None = None,
    ) -> None:
        topology.check()
        if factor <= 0:
            raise HarnessError(f"a time factor of {factor:g} makes no sense")
        self.topology = topology
        self.fleet = fleet
        self.factor = factor
        self.now = 0.0
        """Seconds since the start, on the harness's clock."""
        self.trace = Trace(trace_limit)
        self.changes: list[Change] = []
        """Every new state of a target, in order."""
        self.last_checks: dict[str, str] = {}
        """How the last health check of each target ended: "" if well, else AWS's reason code."""
        self._tap = tap
        self._began = time.monotonic()
        self.gateways = {
            name: GatewayLoadBalancer(
                topology.nodes(name),
                part,
                name=name,
                seed=topology.seed,
                changed=self.changes.append,
            )
            for name, part in topology.gateways.items()
        }
        self.hosts: dict[str, Host] = populate(topology)
        self.faults = Faults(topology.seed, lambda: self.hosts, self._targets)
        """What goes wrong with packets: `harness.faults.set("appliance-1", loss=0.1)`."""
        self.network = Network(
            topology, self.hosts, self.gateways, self._to_target, self.trace, self.faults
        )
        self._checks = {name: HealthChecks(name, gw) for name, gw in self.gateways.items()}
        self.happenings: list[Happening] = []
        """When each fault that was scheduled began and ended, in order."""
        self._agenda = Agenda()
        self._captures: list[CaptureFile] = []
        try:
            for name in topology.gateways:
                for target in topology.targets(name):
                    self.add_target(name, target.name, target.address, target.zone)
            for fault in topology.faults:
                self.schedule(fault)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Harness:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def drops(self) -> Counter[str]:
        """Packets dropped by the load balancers and by routing, by reason."""
        drops = Counter(self.network.drops)
        for gateway in self.gateways.values():
            drops.update(gateway.drops)
        return drops

    @property
    def quiet(self) -> bool:
        """No packet moves, and no host will send again what nobody acknowledged."""
        if self.network.in_flight or self.network.at_appliances:
            return False
        return not any(host.outbox or host.waiting for host in self.hosts.values())

    def cloudwatch(self) -> list[DataPoint]:
        """The data points of every load balancer, minute by minute of the harness's clock."""
        return [point for gw in self.gateways.values() for point in gw.cloudwatch(self.now)]

    def add_target(self, gateway: str, name: str, address: str, zone: str) -> Target:
        """Start an appliance and register it. Raises ApplianceError."""
        target = self._gateway(gateway).register(name, address, zone, self.now)
        self.fleet.start(target, self.now)
        return target

    def remove_target(self, gateway: str, name: str) -> None:
        """Deregister an appliance; it goes on running for the flows that it has."""
        self._gateway(gateway).deregister(name, self.now)

    def replace_node(self, gateway: str, zone: str, address: str) -> None:
        """Give the node of a zone another IPv4 address, as AWS may at any time; flows live on.

        What appliances still send to the former one is dropped as `node_gone`.
        """
        balancer = self._gateway(gateway)
        self.fleet.listen(address)
        balancer.replace_node(zone, address)
        self.network.add_node(gateway, address)

    def crash_target(self, name: str) -> None:
        """End an appliance at once; its load balancer finds out by its health checks."""
        self.fleet.stop(name)

    def hang_target(self, name: str) -> None:
        """Stop an appliance where it stands (SIGSTOP). Its kernel goes on: a TCP health check
        still succeeds, an HTTP one times out, and packets wait in its socket's buffer."""
        self.fleet.hang(self._target(name))

    def slow_target(self, name: str, delay_s: float) -> None:
        """Have an appliance answer packets and health checks so much later; a health check that
        takes longer than its timeout fails."""
        self.schedule(Fault(on=name, slow_s=delay_s))

    def deafen_target(self, name: str) -> None:
        """Let no packet reach an appliance's data path; health checks are answered as before."""
        self.schedule(Fault(on=name, deaf=True))

    def resume_target(self, name: str) -> None:
        """An appliance is no longer hung, slow or deaf."""
        self.fleet.resume(self._target(name))
        self.faults.restore(name)

    def schedule(self, fault: Fault) -> None:
        """Have a fault begin and end when it says, in seconds from now. Raises ConfigError."""
        self.faults.check(fault)
        if fault.after_s:
            self._agenda.add(self.now + fault.after_s, functools.partial(self._begin, fault))
        else:
            self._begin(fault, self.now)
        if fault.for_s:
            end = self.now + fault.after_s + fault.for_s
            self._agenda.add(end, functools.partial(self._end, fault))

    def capture(
        self,
        path: str | Path,
        at: Collection[str] = (),
        *,
        complain: Callable[[str], None] | None = None,
    ) -> CaptureFile:
        """Write what passes at these places, by default at all, to a file that Wireshark reads.

        Places are hosts, targets, load balancers, endpoints, subnets and "igw", by their names.
        The capture ends when it or the harness is closed, or when the file cannot be written: then
        `complain` is called, by default `warnings.warn`. Raises HarnessError.
        """
        places = places_of(self.topology)
        places.update((name, "target") for name in self._targets() if name not in places)
        comment = f"seed {self.topology.seed}; time is the harness's, which begins at 0"
        capture = CaptureFile(path, places, at, comment=comment, complain=complain)
        self._captures.append(capture)
        self.network.watchers.append(capture.see)
        return capture

    def state(self, gateway: str, target: str) -> State:
        """A target's state in the eyes of its own zone."""
        return self._gateway(gateway).targets.state(target)

    def run(self, until: Callable[[], bool] | None = None, timeout_s: float = 30.0) -> bool:
        """Let things happen until `until()` is true, by default until all is quiet.

        Returns whether that was reached within `timeout_s` seconds of the harness's clock.
        """
        end = self.now + timeout_s
        reached = until if until is not None else lambda: self.quiet
        stood_still = 0
        while True:
            self._turn()
            if reached():
                return True
            if self.now >= end:
                return False
            deadline = min(self.next_deadline(), end)
            if self.fleet.realtime:
                self._wait(deadline)
            elif deadline > self.now:
                self.now, stood_still = deadline, 0
            else:
                stood_still += 1
                if stood_still > _STANDSTILL:
                    raise HarnessError(f"at {self.now:g} s things happen without end")

    def advance(self, seconds: float) -> None:
        """Let time pass, whatever happens in it.

        Over UDP the clock of hosts and load balancers leaps once all is quiet; that of the
        appliances does not, so that this takes no time.
        """
        if self.fleet.realtime:
            end = self.now + seconds
            self.run(timeout_s=min(seconds, _LEAP_PATIENCE_S * self.factor))
            self._began -= max(end - self.now, 0) / self.factor
            self._turn()
        else:
            self.run(lambda: False, seconds)

    def wait_healthy(self, timeout_s: float = 120.0) -> None:
        """Run until every target is healthy. Raises HarnessError that names those which are not,
        at once if one of their processes has ended."""
        reached = self.run(lambda: not self._not_healthy() or bool(self._ended()), timeout_s)
        missing = self._not_healthy()
        if reached and not missing:
            return
        if ended := self._ended():
            raise HarnessError("; ".join(ended))
        last = self.last_checks
        those = ", ".join(f"{name} ({last.get(name, 'not asked')})" for name in missing)
        raise HarnessError(f"not healthy after {timeout_s:g} s: {those}")

    def next_deadline(self) -> float:
        """When the next thing happens by itself."""
        return min(
            self.network.next_deadline(),
            self.fleet.next_deadline(),
            self._agenda.next_deadline(),
            *(gateway.next_deadline() for gateway in self.gateways.values()),
            *(checks.next_deadline() for checks in self._checks.values()),
        )

    def close(self) -> None:
        """End the appliances and close every socket."""
        for capture in self._captures:
            capture.close()
        self.fleet.close()

    def _turn(self) -> None:
        """Everything that is due now, until nothing is."""
        if self.fleet.realtime:
            self.now = (time.monotonic() - self._began) * self.factor
        self._agenda.advance(self.now)
        for gateway in self.gateways.values():
            gateway.advance(self.now)
        for checks in self._checks.values():
            for probe in checks.due(self.now):
                self.fleet.probe(probe, self.now)
        self.network.advance(self.now)
        self._hear(0.0)
        if self.fleet.realtime:
            self.network.give_up(self.now - _KEPT_S * self.factor, self.now)
        else:
            self.network.give_up(self.now, self.now)

    def _wait(self, deadline: float) -> None:
        """Over UDP: until something arrives, or `deadline`."""
        if self.network.at_appliances:
            deadline = min(deadline, self.now + _KEPT_S * self.factor)
        real = (deadline - self.now) / self.factor
        self._hear(min(max(real, 0.0), _LONGEST_WAIT_S))

    def _hear(self, timeout_s: float) -> None:
        for _ in range(_TURNS):
            arrivals, results = self.fleet.poll(timeout_s, self.now)
            if self.fleet.realtime:
                self.now = (time.monotonic() - self._began) * self.factor
            for arrival in arrivals:
                self._arrived(arrival)
            for result in results:
                self._probed(result)
            self.network.advance(self.now)
            if not arrivals and not results:
                return
            timeout_s = 0.0

    def _to_target(self, datagram: ToTarget, now: float) -> None:
        if self._tap is not None:
            source, destination = (datagram.node, datagram.source_port), datagram.target.address
            self._tap(now, "to_target", source, (destination, 6081), datagram.payload)
        self.fleet.send(datagram, now)

    def _arrived(self, arrival: Arrival) -> None:
        if self._tap is not None:
            self._tap(self.now, "from_target", *arrival)
        self.network.from_target(*arrival, self.now)

    def _probed(self, result: ProbeResult) -> None:
        probe, reason = result
        slowness_s = self.faults.slowness_s(probe.target.name)
        if not slowness_s or reason == TIMED_OUT:
            self._checked(probe, reason, self.now)
            return
        if slowness_s >= probe.check.timeout_s:
            slowness_s, reason = probe.check.timeout_s, TIMED_OUT
        late = functools.partial(self._checked, probe, reason)
        self._agenda.add(self.now + slowness_s, late)

    def _checked(self, probe: Probe, reason: str, now: float) -> None:
        self.last_checks[probe.target.name] = reason
        self._checks[probe.gateway].result(probe, reason, now)

    def _begin(self, fault: Fault, now: float) -> None:
        self.faults.begin(fault)
        self.happenings.append(Happening(now, fault, began=True))
        if fault.hang:
            self.hang_target(fault.on)
        if fault.kill:
            self.crash_target(fault.on)

    def _end(self, fault: Fault, now: float) -> None:
        self.faults.end(fault)
        self.happenings.append(Happening(now, fault, began=False))
        if fault.hang:
            self.fleet.resume(self._target(fault.on))

    def _targets(self) -> list[str]:
        return [target.name for gateway in self.gateways.values() for target in gateway.targets]

    def _target(self, name: str) -> str:
        known = self._targets()
        if name not in known:
            hint = near_miss(name, known)
            raise HarnessError(f"no target {name!r}" + (f" ({hint})" if hint else ""))
        return name

    def _not_healthy(self) -> list[str]:
        return [
            health.target
            for gateway in self.gateways.values()
            for health in gateway.targets.health()
            if health.state in _NOT_HEALTHY
        ]

    def _ended(self) -> list[str]:
        """The unhealthy targets whose processes have ended by themselves, and how."""
        names = dict.fromkeys(self._not_healthy())
        ended = ((name, self.fleet.ended(name)) for name in names)
        return [f"{name} {how}" for name, how in ended if how]

    def _gateway(self, name: str) -> GatewayLoadBalancer:
        try:
            return self.gateways[name]
        except KeyError:
            known = ", ".join(self.gateways)
            raise HarnessError(f"no load balancer {name!r}; known: {known}") from None
