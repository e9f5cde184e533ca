"""The suite has teeth: each broken appliance fails exactly the cases that are listed for it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from mutants.ask import MET, ask, asked_cases, cases_for, caught_by, concerned
from mutants.generate import ABOUT, PAGE, page
from mutants.known import KNOWN
from mutants.mutant import BRACKET, MUTANTS, UNCAUGHT, Mutant
from mutants.processes import HEALTH, SUMS
from mutants.right import Right
from mutants.right_firewall import RightFirewall
from mutants.right_ids import RightIds

from appliance_sdk.conformance.case import MUST
from appliance_sdk.conformance.features import Features
from appliance_sdk.conformance.openers import open_door
from appliance_sdk.conformance.runner import run_cases
from appliance_sdk.harness import Subprocess

RAW_SERVER = Path(__file__).parent / "mutants" / "raw_server.py"
RIGHT = [Right, RightFirewall, RightIds]


@pytest.mark.anyone
@pytest.mark.parametrize("kind", RIGHT, ids=lambda kind: kind.__name__)
def test_what_is_right_passes_everything(kind: type[Right]) -> None:
    failed = [(one.case.id, one.detail) for one in ask(kind) if one.outcome not in MET]
    assert not failed


@pytest.mark.anyone
@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=lambda mutant: mutant.name)
def test_a_mutant_fails_what_is_listed_and_nothing_else(mutant: Mutant) -> None:
    results = ask(mutant.make, () if os.environ.get("FULL") else concerned(mutant))
    failed = {one.case.id: one.detail for one in results if one.outcome not in MET}
    caught = caught_by(results)
    unlisted = {id: failed.get(id, "") for id in caught - set(mutant.catches)}
    assert not unlisted
    assert not set(mutant.catches) - caught, "got away"


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=lambda mutant: mutant.name)
def test_a_mutant_says_in_one_sentence_what_is_wrong(mutant: Mutant) -> None:
    assert mutant.wrong.endswith(".")
    assert len(mutant.wrong) < 120
    assert len(set(mutant.catches)) == len(mutant.catches) > 0
    assert set(mutant.catches) <= {BRACKET, *(case.id for case in cases_for(mutant.make))}


def test_every_must_catches_something_or_says_why_not() -> None:
    caught = {id for one in MUTANTS.values() for id in one.catches}
    caught |= {id for one in SUMS.values() for id in one.catches}
    musts = {case.id for case in asked_cases() if case.level is MUST}
    assert musts - caught == set(UNCAUGHT)
    assert all(len(reason) > 20 for reason in UNCAUGHT.values())


def test_the_page_lists_the_same() -> None:
    assert PAGE.read_text() == page(), "run: python tests/conformance/mutants/generate.py"
    assert {one.make.__module__.split(".")[1] for one in MUTANTS.values()} == set(ABOUT)


def test_every_fault_that_is_known_has_a_mutant_or_says_why_not() -> None:
    for fault in KNOWN:
        assert set(fault.mutants) <= {*MUTANTS, *HEALTH, *SUMS}, fault
        assert fault.mutants or len(fault.unseen) > 20


@pytest.mark.skipif(os.geteuid() != 0, reason="raw sockets need root")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", ["none", *SUMS])
def test_a_mutant_behind_raw_sockets_fails_what_is_listed(fault: str) -> None:
    command = [sys.executable, str(RAW_SERVER), "{address}", fault]
    door = open_door(Subprocess(command))
    cases = [case for case in cases_for(Right) if case.id.startswith(("reply/", "geneve/"))]
    try:
        results = run_cases(cases, door, Features(every_source_port=True))
    finally:
        door.close()
    assert caught_by(results) == set(SUMS[fault].catches if fault in SUMS else ())
