"""The cases as classes to subclass in pytest: one test method for each case of a profile."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

from appliance_sdk.conformance.case import Case, Profile, all_cases
from appliance_sdk.conformance.features import Features


def _test_of(case: Case) -> Callable[..., None]:
    def test(self: object, gwlb_conformance: Callable[[str], None]) -> None:
        gwlb_conformance(case.id)

    # pytest shows where a test stands by `__wrapped__`: the code of the case. Which fixtures it
    # wants is told by `__signature__`.
    vars(test).update(__wrapped__=case.ask, __signature__=inspect.signature(test))
    test.__name__ = case.test_name
    test.__qualname__ = f"{case.profile.capitalize()}Tests.{case.test_name}"
    test.__doc__ = f"{case.requirement}\n\n{case.level}, {case.id}. {case.reference}"
    return test


class CaseTests:
    """What the classes of all profiles have in common: two attributes that a subclass may set.

    A method that a subclass defines again replaces the case: to skip one, with the reason.
    """

    features: ClassVar[Features] = Features()
    """What the appliance can do; cases that need more are skipped."""
    expected: ClassVar[str] = ""
    """A TOML file of known failures, as for `appliance conformance run --expected`; a relative
    path is seen from the folder of the test module."""

    def __init_subclass__(cls, profile: Profile | None = None, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if profile is not None:
            for case in all_cases().values():
                if case.profile is profile:
                    setattr(cls, case.test_name, _test_of(case))


class TransportTests(CaseTests, profile=Profile.TRANSPORT):
    """GENEVE in, the same packet out: for every appliance."""


class HealthTests(CaseTests, profile=Profile.HEALTH):
    """Health checks, for whoever is asked them."""


class FlowTests(CaseTests, profile=Profile.FLOW):
    """The lives of flows, for whoever keeps state of them."""


class FirewallTests(CaseTests, profile=Profile.FIREWALL):
    """The suite's policy, for whoever enforces it."""


class IdsTests(CaseTests, profile=Profile.IDS):
    """The suite's rules, for whoever reports what they look for."""


class OperationsTests(CaseTests, profile=Profile.OPERATIONS):
    """Starting, draining, ending: for whoever the suite can start and stop."""
