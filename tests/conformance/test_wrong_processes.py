"""Appliances that are wrong in health or operations, each in one way, and the cases that notice."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from mutants.processes import HEALTH, OPERATIONS

from appliance_sdk.conformance import rig
from appliance_sdk.conformance.case import MUST, Profile, all_cases
from appliance_sdk.conformance.cases import (
    health_misuse,
    health_truth,
    operations_ends,
    operations_lasts,
    operations_starts,
)
from appliance_sdk.conformance.doors import UdpDoor
from appliance_sdk.conformance.features import Features
from appliance_sdk.conformance.openers import open_door
from appliance_sdk.conformance.outcome import Outcome, Result
from appliance_sdk.conformance.runner import missing_for, run_case
from appliance_sdk.harness import Subprocess

pytestmark = pytest.mark.anyone

SCRIPT = Path(__file__).parent / "wrong_process.py"
FEATURES = Features(drain=True)
ASKED = [
    id for id, case in all_cases().items() if case.profile in (Profile.HEALTH, Profile.OPERATIONS)
]
ALSO = ["operations/flows-after-crash", "health/http", "health/steady"]
"""Asked of each, so that one that is wrong altogether is not taken for wrong in one way."""
NEVER_HEALTHY = ("another-port", "never-well")

WRONG = {name: one.catches for name, one in (HEALTH | OPERATIONS).items()}
_ports = itertools.count(18_000)

UNCAUGHT = {
    "health/under-load": "how slow one must be for it depends on the machine",
    "health/asked-address": "the right one has one address",
}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for something that does not come here waits less long."""
    for module in (rig, operations_starts):
        monkeypatch.setattr(module, "START_S", 8.0)
    monkeypatch.setattr(health_misuse, "TIMEOUT_S", 2.0)
    monkeypatch.setattr(health_truth, "_WITHIN_S", 2.0)
    monkeypatch.setattr(operations_ends, "_ENDS_S", 4.0)
    monkeypatch.setattr(operations_lasts, "_SETTLE_S", 2.0)


def ask(fault: str, ids: Iterable[str]) -> dict[str, Result]:
    """The cases, one after the other, of an appliance that was just started."""
    command = [sys.executable, str(SCRIPT), fault, "{address}", "{health_port}"]
    # A port of its own: the last one's may be kept by connections that are hardly over.
    door = open_door(Subprocess(command, health_port=next(_ports)))
    assert isinstance(door, UdpDoor)
    try:
        return {
            id: run_case(all_cases()[id], door, FEATURES)
            for id in ids
            if not missing_for(all_cases()[id], door, FEATURES)
        }
    finally:
        door.control.kill()
        door.close()


def failed(results: dict[str, Result]) -> dict[str, str]:
    return {id: one.detail for id, one in results.items() if one.outcome is not Outcome.PASS}


@pytest.mark.timeout(400)
def test_the_right_one_passes_everything() -> None:
    assert failed(ask("none", ASKED)) == {}


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_one_is_noticed(fault: str) -> None:
    caught = WRONG[fault]
    also = () if fault in NEVER_HEALTHY else ALSO
    results = ask(fault, [id for id in also if id not in caught])
    for id in caught:
        results |= ask(fault, [id])
    assert set(failed(results)) == set(caught), failed(results)
    assert Outcome.ERROR not in {one.outcome for one in results.values()}


def test_every_case_notices_something() -> None:
    caught = {id for ids in WRONG.values() for id in ids}
    assert set(ASKED) - caught == set(UNCAUGHT)
    assert not [id for id in UNCAUGHT if all_cases()[id].level is MUST]
