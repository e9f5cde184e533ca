"""The reference appliances are conformant by every door: in memory, and as processes over UDP."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance_sdk.conformance.case import Case, Profile, all_cases
from appliance_sdk.conformance.openers import open_door
from appliance_sdk.conformance.outcome import Outcome, Result, judge
from appliance_sdk.conformance.report_text import result_line
from appliance_sdk.conformance.runner import run_cases
from appliance_sdk.conformance.setup import Setup, find_setup
from reference_appliances.firewall import Firewall
from reference_appliances.ids import Ids

PROCESS_PROFILES = {Profile.HEALTH, Profile.OPERATIONS}
"""What they ask is asked of the appliances as processes of their own, beside the appliances."""
MAY_BE_RAW = os.geteuid() == 0
REPEATED = pytest.mark.skipif(os.environ.get("FULL") != "1", reason="long: FULL=1 runs it")


def setup_of(plugin: Any) -> Setup:
    setup = find_setup(plugin)
    assert setup is not None
    return setup


def ask(
    plugin: Any,
    plane: str,
    *,
    raw: bool | None = None,
    profiles: set[Profile] | None = None,
    settings: dict[str, Any] | None = None,
    **features: bool,
) -> list[Result]:
    """Every case of the profiles that the appliance is for."""
    setup = setup_of(plugin)
    chosen = set(setup.profiles) if profiles is None else profiles
    cases = [case for case in all_cases().values() if case.profile in chosen]
    declared = msgspec.structs.replace(setup.features, **features)
    door = open_door(setup.instance(plugin, **(settings or {})), plane, raw=raw)
    try:
        return run_cases(cases, door, declared)
    finally:
        door.close()


def check(results: Sequence[Result], *, passed: int) -> None:
    """All is as required, and so many cases at least were asked."""
    problems = [
        result_line(one)
        for one in results
        if one.outcome not in (Outcome.PASS, Outcome.INFO, Outcome.UNSUPPORTED)
    ]
    assert not problems, "\n".join(problems)
    assert judge(results) == "CONFORMANT"
    assert sum(one.outcome is Outcome.PASS for one in results) >= passed


def own(plugin: Any) -> list[Case]:
    profile = Profile.FIREWALL if plugin is Firewall else Profile.IDS
    return [case for case in all_cases().values() if case.profile is profile]


@pytest.mark.anyone
@pytest.mark.parametrize("plugin", [Firewall, Ids])
def test_in_memory(plugin: Any) -> None:
    results = ask(plugin, "memory", every_source_port=True)
    check(results, passed=150)
    mine = {case.id for case in own(plugin)}
    skipped = [r for r in results if r.case.id in mine and r.outcome is not Outcome.PASS]
    assert not [r.case.id for r in skipped if "feature" in r.detail]


@pytest.mark.anyone
def test_in_memory_a_firewall_that_takes_connections_up_in_their_middle(tmp_path: Path) -> None:
    policy = Path(str(setup_of(Firewall).settings["policy"])).read_text()
    path = tmp_path / "policy.toml"
    path.write_text(policy.replace('midstream = "reject"', 'midstream = "allow"'))
    check(ask(Firewall, "memory", settings={"policy": str(path)}, midstream=True), passed=150)


@pytest.mark.anyone
def test_in_memory_an_ids_that_only_detects() -> None:
    check(ask(Ids, "memory", settings={"mode": "ids"}, prevention=False), passed=130)


@pytest.mark.anyone
@pytest.mark.timeout(600)
@pytest.mark.parametrize("plugin", [Firewall, Ids])
def test_over_udp_answering_from_ordinary_sockets(plugin: Any) -> None:
    profiles = set(setup_of(plugin).profiles) - PROCESS_PROFILES
    check(ask(plugin, "udp", raw=False, profiles=profiles), passed=145)


@pytest.mark.skipif(not MAY_BE_RAW, reason="a raw socket needs privileges")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("plugin", [Firewall, Ids])
def test_over_udp_answering_by_a_raw_socket(plugin: Any) -> None:
    profiles = set(setup_of(plugin).profiles) - PROCESS_PROFILES
    results = ask(plugin, "udp", raw=True, profiles=profiles, every_source_port=True)
    check(results, passed=150)


@REPEATED
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("plane", ["memory", "udp"])
@pytest.mark.parametrize("plugin", [Firewall, Ids])
def test_five_runs_give_the_same_outcomes_to_the_same_stimuli(plugin: Any, plane: str) -> None:
    runs = [
        {one.case.id: (one.outcome, one.stimuli) for one in ask(plugin, plane)} for _ in range(5)
    ]
    differing = {
        id: [run[id] for run in runs] for id in runs[0] if len({run[id] for run in runs}) > 1
    }
    assert not differing
