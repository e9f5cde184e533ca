"""The reference appliances as processes pass what is asked of health and operations."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from appliance_sdk.conformance.case import Profile, all_cases
from appliance_sdk.conformance.features import Features
from appliance_sdk.conformance.openers import open_door
from appliance_sdk.conformance.outcome import Outcome
from appliance_sdk.conformance.runner import run_cases
from appliance_sdk.harness import Subprocess

SCRIPT = Path(__file__).parents[1] / "support" / "reference_process.py"
FEATURES = Features(origins=True, drain=True)


def may_be_raw() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW).close()
    except PermissionError:
        return False
    return True


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("name", "raw"),
    [
        pytest.param("firewall", "false", marks=pytest.mark.anyone),
        pytest.param("ids", "false", marks=pytest.mark.anyone),
        pytest.param(
            "analytics",
            "true",
            marks=pytest.mark.skipif(not may_be_raw(), reason="raw sockets want CAP_NET_RAW"),
        ),
    ],
)
def test_a_reference_appliance_is_conformant(name: str, raw: str) -> None:
    places = ["{address}", "{health_port}", "{origins}"]
    command = [sys.executable, str(SCRIPT), name, *places, f"raw = {raw}"]
    profiles = (Profile.HEALTH, Profile.OPERATIONS)
    cases = [case for case in all_cases().values() if case.profile in profiles]
    door = open_door(Subprocess(command))
    try:
        results = run_cases(cases, door, FEATURES)
    finally:
        door.close()
    problems = [
        (one.case.id, one.detail)
        for one in results
        if one.outcome not in (Outcome.PASS, Outcome.UNSUPPORTED)
    ]
    assert not problems
    asked = [one for one in results if one.outcome is Outcome.PASS]
    assert len(asked) > 35
