"""What a conformance case is: an id, how binding it is, what it needs, and a function that asks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from appliance_sdk.conformance.features import Features

if TYPE_CHECKING:
    from appliance_sdk.conformance.rig import Rig


class NotConformant(AssertionError):
    """The appliance does not do what a case requires; the message says what it did."""


class Level(StrEnum):
    """How binding a requirement is (RFC 2119)."""

    MUST = "MUST"
    SHOULD = "SHOULD"
    MAY = "MAY"


MUST, SHOULD, MAY = Level.MUST, Level.SHOULD, Level.MAY


class Profile(StrEnum):
    """What kind of appliance a case is for."""

    TRANSPORT = "transport"
    """Everybody: GENEVE in, the same packet out. The appliance must forward everything."""
    HEALTH = "health"
    """Whoever is health-checked."""
    FLOW = "flow"
    """Whoever keeps state of flows."""
    FIREWALL = "firewall"
    """Whoever enforces the suite's policy."""
    IDS = "ids"
    """Whoever reports what the suite's rules look for."""
    OPERATIONS = "operations"
    """Whoever can be started and stopped by the suite."""


class Ability(StrEnum):
    """What a door can do with an appliance, whatever the appliance is."""

    CLOCK = "clock"
    """Let minutes pass at once."""
    SOCKETS = "sockets"
    """Real UDP: ports, checksums, buffers."""
    HEALTH = "health"
    """Ask its health checks: the port is known."""
    PROCESS = "process"
    """Signal it, kill it, start it again."""
    ALERTS = "alerts"
    """Read what it reports."""
    NODES = "nodes"
    """Send from two addresses of the load balancer."""


class Case(NamedTuple):
    """One requirement, with the question that shows whether it is met."""

    id: str
    """Never changes: "geneve/version"."""
    level: Level
    profile: Profile
    needs: tuple[str, ...]
    """Features of the appliance and abilities of the door, by name."""
    reference: str
    """Where the requirement is written."""
    requirement: str
    """One sentence."""
    explanation: str
    """More on why, and what usually goes wrong; may be ""."""
    ask: Callable[[Rig], None]
    """Raises NotConformant."""

    @property
    def extended(self) -> bool:
        """It needs a feature that not every appliance has."""
        return any(name in FEATURE_NAMES for name in self.needs)

    @property
    def test_name(self) -> str:
        """The name of its test in a pytest class."""
        return "test_" + self.id.replace("/", "__").replace("-", "_")


Ask = Callable[["Rig"], None]

FEATURE_NAMES = frozenset(Features.__struct_fields__)
ABILITY_NAMES = frozenset(str(ability) for ability in Ability)
_CASES: dict[str, Case] = {}


def case(
    id: str,
    level: Level,
    profile: Profile,
    *,
    needs: tuple[str, ...] = (),
    reference: str,
) -> Callable[[Ask], Ask]:
    """Make a function a case; its docstring's first paragraph is the requirement."""
    unknown = set(needs) - FEATURE_NAMES - ABILITY_NAMES
    if unknown or id in _CASES:
        raise ValueError(f"{id}: known already, or needs what is unknown: {sorted(unknown)}")

    def register(ask: Ask) -> Ask:
        text = inspect.getdoc(ask) or ""
        requirement, _, explanation = text.partition("\n\n")
        if not requirement:
            raise ValueError(f"{id}: a case says what it requires in its docstring")
        _CASES[id] = Case(
            id,
            level,
            profile,
            needs,
            reference,
            " ".join(requirement.split()),
            explanation,
            ask,
        )
        return ask

    return register


def all_cases() -> Mapping[str, Case]:
    """Every case by id: profiles in the order of `Profile`, within one in the order written."""
    import appliance_sdk.conformance.cases  # noqa: F401 - importing them is what registers them

    order = list(Profile)
    ranked = sorted(_CASES.values(), key=lambda one: order.index(one.profile))
    return MappingProxyType({one.id: one for one in ranked})
