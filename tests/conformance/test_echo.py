"""An appliance of thirty lines, not one of them the SDK's: what it fails is known and listed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from appliance_sdk.conformance.case import Profile, all_cases
from appliance_sdk.conformance.expected import read_expected
from appliance_sdk.conformance.features import Features
from appliance_sdk.conformance.openers import open_door
from appliance_sdk.conformance.outcome import Outcome, Result, judge, surprising
from appliance_sdk.conformance.runner import run_cases
from appliance_sdk.harness import Subprocess

pytestmark = pytest.mark.anyone

SUPPORT = Path(__file__).parents[1] / "support"
EXPECTED = SUPPORT / "echo_expected.toml"
FINE = (Outcome.PASS, Outcome.INFO, Outcome.UNSUPPORTED)


def ask(*profiles: Profile) -> list[Result]:
    command = [sys.executable, str(SUPPORT / "echo_appliance.py"), "{address}", "{health_port}"]
    cases = [case for case in all_cases().values() if case.profile in profiles]
    door = open_door(Subprocess(command))
    try:
        return run_cases(cases, door, Features(), expected=read_expected(EXPECTED))
    finally:
        door.close()


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("profiles", "passing"),
    [
        ((Profile.TRANSPORT, Profile.FLOW), 60),
        ((Profile.HEALTH, Profile.OPERATIONS), 25),
    ],
)
def test_an_echo_fails_what_is_known_and_nothing_else(
    profiles: tuple[Profile, ...], passing: int
) -> None:
    results = ask(*profiles)
    problems = [
        (one.case.id, one.outcome, one.detail)
        for one in results
        if one.outcome not in FINE and not one.expected
    ]
    assert not problems
    assert not [one.case.id for one in results if surprising(one)]
    assert judge(results, strict=True) == "CONFORMANT"
    assert sum(one.outcome is Outcome.PASS for one in results) > passing
