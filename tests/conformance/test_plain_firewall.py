"""A firewall that is not the SDK's, in one file: the suite's policy can be had without us."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from appliance_sdk.conformance.case import Profile, all_cases
from appliance_sdk.conformance.features import read_features
from appliance_sdk.conformance.openers import open_door
from appliance_sdk.conformance.outcome import Outcome, judge
from appliance_sdk.conformance.report_text import result_line
from appliance_sdk.conformance.runner import run_cases
from appliance_sdk.harness import Subprocess

pytestmark = pytest.mark.anyone

PROGRAM = Path(__file__).parents[2] / "docs" / "examples" / "firewall.py"
PROFILES = (Profile.TRANSPORT, Profile.FLOW, Profile.FIREWALL)


@pytest.mark.timeout(600)
def test_a_firewall_of_250_lines_without_the_sdk_is_conformant() -> None:
    text = PROGRAM.read_text()
    assert "import appliance_sdk" not in text
    assert len(text.splitlines()) < 270
    features = read_features(PROGRAM.with_name("firewall-features.toml"))
    cases = [case for case in all_cases().values() if case.profile in PROFILES]
    door = open_door(Subprocess([sys.executable, str(PROGRAM), "{address}", "{health_port}"]))
    try:
        results = run_cases(cases, door, features)
    finally:
        door.close()
    problems = [
        result_line(one)
        for one in results
        if one.outcome not in (Outcome.PASS, Outcome.INFO, Outcome.UNSUPPORTED)
    ]
    assert not problems, "\n".join(problems)
    assert judge(results, strict=True) == "CONFORMANT"
    assert sum(one.outcome is Outcome.PASS for one in results) > 150
