"""The reference firewall and IDS of several processes are conformant, privileged and not."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance_sdk.conformance.case import Profile, all_cases
from appliance_sdk.conformance.openers import open_door
from appliance_sdk.conformance.outcome import Outcome, judge
from appliance_sdk.conformance.report_text import result_line
from appliance_sdk.conformance.runner import run_cases
from appliance_sdk.conformance.setup import find_setup
from appliance_sdk.harness import Subprocess
from reference_appliances.firewall import Firewall
from reference_appliances.ids import Ids

FULL = os.environ.get("FULL") == "1"
SCRIPT = Path(__file__).parents[1] / "support" / "reference_workers.py"
SHORT = [(Firewall, 2, "raw"), (Firewall, 4, "ports"), (Ids, 2, "ports"), (Ids, 4, "raw")]
LONG = [(one, n, way) for one in (Firewall, Ids) for n in (1, 2, 4) for way in ("raw", "ports")]
ASKED = [
    pytest.param(*one, marks=pytest.mark.anyone if one[2] == "ports" else ())
    for one in (LONG if FULL else SHORT)
]


def may_be_raw() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW).close()
    except PermissionError:
        return False
    return True


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("plugin", "workers", "way"), ASKED)
def test_workers_judge_as_one(plugin: Any, workers: int, way: str) -> None:
    raw = way == "raw"
    if raw and not may_be_raw():
        pytest.skip("raw sockets want CAP_NET_RAW")
    setup = find_setup(plugin)
    assert setup is not None
    # The process has one address, not every one of the machine: others test here too.
    features = msgspec.structs.replace(setup.features, every_source_port=raw, every_address=False)
    own = Profile.FIREWALL if plugin is Firewall else Profile.IDS
    profiles = setup.profiles if FULL else (own,)
    cases = [case for case in all_cases().values() if case.profile in profiles]
    places = ["{address}", "{health_port}", "{origins}"]
    command = [sys.executable, str(SCRIPT), plugin.name, str(workers), str(raw).lower(), *places]
    door = open_door(Subprocess(command))
    try:
        results = run_cases(cases, door, features)
    finally:
        door.close()
    allowed = (Outcome.PASS, Outcome.INFO, Outcome.UNSUPPORTED)
    assert not [result_line(one) for one in results if one.outcome not in allowed]
    assert judge(results) == "CONFORMANT"
    unasked = [one for one in results if one.outcome is Outcome.UNSUPPORTED]
    assert len(unasked) <= len(cases) // 8, [result_line(one) for one in unasked]
