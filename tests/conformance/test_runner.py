"""How a case becomes an outcome, and a run a verdict."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance_sdk import Plugin, Verdict
from appliance_sdk.conformance import runner
from appliance_sdk.conformance.case import Case, Level, NotConformant, Profile, all_cases
from appliance_sdk.conformance.doors import UdpDoor
from appliance_sdk.conformance.features import Features
from appliance_sdk.conformance.openers import open_door
from appliance_sdk.conformance.outcome import Outcome, Result, judge
from appliance_sdk.conformance.rig import Rig
from appliance_sdk.conformance.runner import run_cases
from appliance_sdk.errors import HarnessError
from appliance_sdk.harness import Subprocess
from appliance_sdk.harness.process_tree import family

BAD = [sys.executable, str(Path(__file__).parent / "bad_appliance.py")]


class Forwarder(Plugin):
    """Forwards everything."""

    name = "forwarder"

    def flow_opened(self, flow: object) -> Verdict:
        return Verdict.DONE


class Blocker(Plugin):
    """Forwards nothing."""

    name = "blocker"

    def flow_opened(self, flow: object) -> Verdict:
        return Verdict.BLOCK


def fails(rig: Rig) -> None:
    raise NotConformant("it is blue")


def made(
    ask: Callable[[Rig], None], level: Level = Level.MUST, needs: tuple[str, ...] = ()
) -> Case:
    return Case("made/case", level, Profile.TRANSPORT, needs, "here", "It is red.", "", ask)


def outcome(case: Case, features: Features | None = None) -> Result:
    results = run_cases([case], open_door(Forwarder), features or Features())
    assert len(results) == 1
    return results[0]


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (Level.MUST, Outcome.FAIL),
        (Level.SHOULD, Outcome.NON_STRICT),
        (Level.MAY, Outcome.INFO),
    ],
)
def test_the_level_says_what_a_failure_is(level: Level, expected: Outcome) -> None:
    result = outcome(made(fails, level))
    assert (result.outcome, result.detail) == (expected, "it is blue")


def test_a_feature_that_is_not_declared_is_not_asked() -> None:
    case = made(fails, needs=("reject",))
    assert outcome(case).outcome is Outcome.UNSUPPORTED
    assert "reject" in outcome(case).detail
    assert outcome(case, Features(reject=True)).outcome is Outcome.FAIL


def test_what_the_door_cannot_do_is_not_asked() -> None:
    result = outcome(made(fails, needs=("process",)))
    assert result.outcome is Outcome.UNSUPPORTED
    assert "--exec" in result.detail


def test_trouble_of_the_suite_is_an_error_and_not_a_failure() -> None:
    def trouble(rig: Rig) -> None:
        raise HarnessError("no such address")

    result = outcome(made(trouble))
    assert (result.outcome, result.detail) == (Outcome.ERROR, "no such address")


def test_a_bug_of_a_case_is_not_hidden() -> None:
    def bug(rig: Rig) -> None:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        outcome(made(bug))


def test_an_appliance_that_raises_fails_the_case() -> None:
    class Plane:
        def deliver(self, payload: bytes, peer: bytes, local: bytes, now: float) -> list[object]:
            if b"boom" in payload:
                raise IndexError("out of range")
            return [(peer, local, payload)]

        def advance(self, now: float) -> list[object]:
            return []

        def next_deadline(self) -> float:
            return float("inf")

    from appliance_sdk.conformance.doors import MemoryDoor

    def ask(rig: Rig) -> None:
        rig.returned(rig.udp().to_server(b"boom"))

    door = MemoryDoor(lambda emit, now: Plane(), "raises")  # type: ignore[arg-type, return-value]
    result = run_cases([made(ask)], door, Features())[0]
    assert result.outcome is Outcome.FAIL
    assert "IndexError" in result.detail


def test_a_datagram_that_answers_nothing_fails_the_case() -> None:
    def ask(rig: Rig) -> None:
        rig.send(rig.udp().to_server(b"nobody waits for this"))

    result = outcome(made(ask))
    assert result.outcome is Outcome.FAIL
    assert "answer nothing" in result.detail


def test_a_case_that_takes_too_long_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "CASE_S", 0.2)

    def endless(rig: Rig) -> None:
        while True:
            time.sleep(0.01)

    result = outcome(made(endless))
    assert result.outcome is Outcome.ERROR
    assert "0.2 s" in result.detail


def test_without_a_plain_packet_coming_back_nothing_is_asked() -> None:
    results = run_cases(list(all_cases().values())[:3], open_door(Blocker), Features())
    assert {one.outcome for one in results} == {Outcome.ERROR}
    assert "does not forward" in results[0].detail


def test_the_verdict() -> None:
    def result(found: Outcome, expected: str = "") -> Result:
        return Result(made(fails), found, expected=expected)

    passed, failed = result(Outcome.PASS), result(Outcome.FAIL)
    should, error = result(Outcome.NON_STRICT), result(Outcome.ERROR)
    known, surprise = result(Outcome.FAIL, "known"), result(Outcome.PASS, "known")
    assert judge([passed, should, known, surprise]) == "CONFORMANT"
    assert judge([passed, should], strict=True) == "NOT CONFORMANT"
    assert judge([passed, surprise], strict=True) == "NOT CONFORMANT"
    assert judge([passed, known], strict=True) == "CONFORMANT"
    assert judge([error, failed]) == "NOT CONFORMANT"
    assert judge([error, passed]) == "UNKNOWN"


def test_one_seed_asks_the_same_to_the_byte_whatever_else_is_asked() -> None:
    cases = [case for case in all_cases().values() if case.profile is Profile.TRANSPORT]
    features = Features(every_source_port=True, every_address=True, origins=True)

    def asked(chosen: list[Case], seed: str) -> dict[str, tuple[str, list[bytes]]]:
        return {
            one.case.id: (one.stimuli, [d.payload for d in one.datagrams])
            for one in run_cases(chosen, open_door(Blocking), features, seed=seed)
        }

    whole, again = asked(cases, "1"), asked(cases, "1")
    assert whole == again
    assert any(datagrams for _, datagrams in whole.values())
    some = asked(cases[5:9], "1")
    assert some == {id: whole[id] for id in some}
    other = asked(cases, "2")
    differing = [id for id in whole if whole[id][0] != other[id][0]]
    assert len(differing) > len(whole) * 0.9


class Blocking(Plugin):
    """Lets plain packets through, so that the suite goes on, and little else."""

    name = "blocking"

    def flow_opened(self, flow: object) -> Verdict:
        return Verdict.DONE if getattr(flow, "server_port", 0) == 7 else Verdict.BLOCK


# What runs elsewhere.


def ask_udp(mode: str, count: int = 4, start_s: float = 5.0) -> list[Result]:
    chosen = [all_cases()[id] for id in ("reply/once", "inner/ttl", "geneve/version", "inner/ping")]
    door = open_door(Subprocess([*BAD, mode, "{address}"]), start_s=start_s)
    try:
        return run_cases(chosen[:count], door, Features())
    finally:
        door.close()


def test_an_appliance_that_never_comes_up_is_unreachable() -> None:
    with pytest.raises(HarnessError, match=r"no plain packet within 0\.5 s"):
        ask_udp("silent", start_s=0.5)


def test_an_appliance_that_ends_at_once_is_unreachable_and_quoted() -> None:
    with pytest.raises(HarnessError, match="status 7 and said: no licence found"):
        ask_udp("exits", start_s=30)


def test_an_appliance_that_dies_fails_what_killed_it_and_is_started_again() -> None:
    results = ask_udp("dies")
    assert [one.outcome for one in results].count(Outcome.FAIL) >= 1
    assert Outcome.ERROR not in {one.outcome for one in results}


def test_an_appliance_that_stops_answering_is_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "_RECOVERY_S", 0.2)
    results = ask_udp("deaf", count=2)
    assert Outcome.FAIL in {one.outcome for one in results}


@pytest.mark.anyone
def test_a_flood_is_a_failure_that_says_so() -> None:
    results = ask_udp("floods", count=3)
    assert results[-1].outcome in {Outcome.FAIL, Outcome.ERROR}
    assert any("flood" in one.detail for one in results)


@pytest.mark.anyone
def test_an_appliance_that_takes_its_time_is_taken_for_what_it_is() -> None:
    """Its answers to the first plain packets come when others are waited for already."""
    assert [one.outcome for one in ask_udp("slow", count=2, start_s=30)] == [Outcome.PASS] * 2


@pytest.mark.anyone
def test_garbage_is_a_failure() -> None:
    results = ask_udp("garbage", count=1)
    assert results[0].outcome is Outcome.FAIL


def test_swapped_ports_are_named() -> None:
    with pytest.raises(HarnessError, match=r"left from UDP port 6081, not 610\d\d \(an ordinary"):
        ask_udp("swaps", start_s=0.5)


def test_a_daemon_is_unreachable_and_ended() -> None:
    door = open_door(Subprocess([*BAD, "daemon", "{address}"]), start_s=30)
    assert isinstance(door, UdpDoor)
    try:
        with pytest.raises(HarnessError, match="in the foreground"):
            run_cases([all_cases()["inner/ping"]], door, Features())
        left = door.control.family()
    finally:
        door.close()
    assert not [pid for pid in left if family(pid)]


@pytest.mark.parametrize("mode", ["child", "grandchild", "stubborn"])
def test_no_process_is_left_behind(mode: str) -> None:
    door = open_door(Subprocess([*BAD, mode, "{address}"]))
    assert isinstance(door, UdpDoor)
    try:
        run_cases([all_cases()["inner/ping"]], door, Features())
        members = door.control.family()
        assert len(members) == (1 if mode == "stubborn" else 2)
    finally:
        began = time.monotonic()
        door.close()
    assert time.monotonic() - began < 30
    assert not [pid for pid in members if family(pid)]
