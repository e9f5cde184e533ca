"""When each target is asked whether it works, and what the answers of one round say together."""

from __future__ import annotations

import math
from collections import Counter
from typing import NamedTuple

from appliance_sdk.harness.balancer import GatewayLoadBalancer
from appliance_sdk.harness.settings import HealthCheck
from appliance_sdk.harness.states import Target


class Probe(NamedTuple):
    """One health check to make: from `node` to the target's health port."""

    gateway: str
    target: Target
    zone: str
    node: str
    check: HealthCheck
    user_agent: str = ""
    close: str = "fin"
    """How its connection ends: "fin" or "reset"."""


class _Round:
    def __init__(self, now: float) -> None:
        self.due = now
        self.results: list[str] = []
        self.open = 0


class HealthChecks:
    """The health checks of one load balancer; `settings.probes` of them make a round."""

    def __init__(self, name: str, gateway: GatewayLoadBalancer) -> None:
        self._name = name
        self._gateway = gateway
        self._rounds: dict[tuple[str, str], _Round] = {}

    def next_deadline(self) -> float:
        """When the next round is due, math.inf without targets."""
        if self._missing():
            return -math.inf
        return min((round_.due for round_ in self._rounds.values()), default=math.inf)

    def due(self, now: float) -> list[Probe]:
        """The checks to make now."""
        settings = self._gateway.settings
        checked = {(zone, target.name): target for zone, target in self._gateway.targets.checked()}
        for place in set(self._rounds) - set(checked):
            del self._rounds[place]
        probes: list[Probe] = []
        for place, target in checked.items():
            round_ = self._rounds.setdefault(place, _Round(now))
            if round_.due > now:
                continue
            round_.due = now + settings.health_check.interval_s
            round_.results, round_.open = [], settings.probes
            node = self._gateway.nodes[place[0]]
            probe = Probe(
                self._name,
                target,
                place[0],
                node,
                settings.health_check,
                settings.undocumented.probe_user_agent,
                settings.undocumented.probe_close,
            )
            probes += [probe] * settings.probes
        return probes

    def result(self, probe: Probe, reason: str, now: float) -> None:
        """The answer to one check, "" for a success; more than half of a round decide."""
        round_ = self._rounds.get((probe.zone, probe.target.name))
        if round_ is None or not round_.open:
            return
        round_.open -= 1
        round_.results.append(reason)
        if round_.open:
            return
        failures = [reason for reason in round_.results if reason]
        failed = len(failures) * 2 >= len(round_.results)
        said = Counter(failures).most_common(1)[0][0] if failed else ""
        self._gateway.probed(probe.target.name, probe.zone, said, now)

    def _missing(self) -> bool:
        checked = self._gateway.targets.checked()
        return any((zone, target.name) not in self._rounds for zone, target in checked)
