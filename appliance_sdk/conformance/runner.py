"""Runs cases against an appliance, one after the other, and never longer than it must."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType

from appliance_sdk.conformance.case import ABILITY_NAMES, Ability, Case, NotConformant
from appliance_sdk.conformance.doors import Door
from appliance_sdk.conformance.features import Features
from appliance_sdk.conformance.outcome import NOT_MET, Outcome, Result
from appliance_sdk.conformance.rig import Broken
from appliance_sdk.errors import ApplianceError
from appliance_sdk.harness.datagrams import Capture

CASE_S = 60.0
"""Real seconds that a case may take."""
_RECOVERY_S = 5.0

Progress = Callable[[Result], None]


class _TooLong(Exception):
    """A case has used up its time."""


def run_cases(
    cases: Sequence[Case],
    door: Door,
    features: Features,
    *,
    seed: str = "0",
    expected: Mapping[str, str] | None = None,
    progress: Progress = lambda _: None,
) -> list[Result]:
    """Ask every case. `expected` says, by id, why a failure is expected.

    Before the first case and behind each one a plain packet must come back; if none does even
    after a restart, the rest is ERROR. Raises HarnessError if the appliance never comes up.
    """
    bracket = Bracket(door, features, seed=seed)
    results: list[Result] = []
    for case in cases:
        result = bracket.ask(case, features)
        result = result._replace(expected=(expected or {}).get(case.id, ""))
        results.append(result)
        progress(result)
    return results


class Bracket:
    """Asks one appliance, with plain packets before the first case and behind each one.

    Raises HarnessError if the appliance never comes up.
    """

    def __init__(self, door: Door, features: Features, *, seed: str = "0") -> None:
        self.door = door
        self.lost = _first_sign(door, features)
        """Why the appliance cannot be asked any more, "" if it can."""
        self._seed = seed

    def ask(self, case: Case, features: Features) -> Result:
        """The outcome of a case: UNSUPPORTED if it needs what is not there."""
        missing = missing_for(case, self.door, features)
        if missing:
            return Result(case, Outcome.UNSUPPORTED, missing)
        if self.lost:
            return Result(case, Outcome.ERROR, self.lost)
        result = run_case(case, self.door, features, seed=self._seed)
        if result.outcome not in (Outcome.PASS, Outcome.INFO):
            self.lost = _recovered(self.door, features)
        return result


def run_case(case: Case, door: Door, features: Features, *, seed: str = "0") -> Result:
    """Ask one case, whatever it needs."""
    capture = Capture()
    began = time.monotonic()
    outcome, detail, stimuli = Outcome.PASS, "", ""
    try:
        with _limit(CASE_S), door.open(features, f"{seed} {case.id}", capture) as rig:
            try:
                case.ask(rig)
                rig.finish()
            except NotConformant as error:
                ended = rig.ended()
                if not ended or ended in str(error):
                    raise
                raise Broken(f"{error}{ended}") from None
            finally:
                stimuli = rig.stimuli
    except NotConformant as error:
        outcome, detail = NOT_MET[case.level], str(error)
        if isinstance(error, Broken):
            outcome = Outcome.FAIL  # whatever the case asked: it is gone
    except _TooLong:
        outcome, detail = Outcome.ERROR, f"not done after {CASE_S:g} s"
    except (ApplianceError, OSError) as error:
        outcome, detail = Outcome.ERROR, str(error)
    took = time.monotonic() - began
    datagrams = () if outcome is Outcome.PASS else tuple(capture.datagrams)
    return Result(case, outcome, detail, took, stimuli, datagrams)


def missing_for(case: Case, door: Door, features: Features) -> str:
    """What the case needs and is not there, "" if nothing."""
    for name in case.needs:
        if name in ABILITY_NAMES:
            if name not in {str(ability) for ability in door.abilities}:
                return _ABILITIES[name]
        elif not getattr(features, name):
            return f"feature {name} is not declared"
    return ""


_ABILITIES = {
    "clock": "needs an appliance in this process, whose clock the suite can move",
    "sockets": "needs an appliance behind real sockets",
    "health": "needs an appliance whose health port is known (--health-port)",
    "process": "needs an appliance that the suite starts (--exec)",
    "alerts": "the suite cannot read what the appliance reports",
    "nodes": "needs two addresses to send from",
}


def _first_sign(door: Door, features: Features) -> str:
    with door.open(features, "first", None) as rig:
        try:
            rig.alive()
        except NotConformant as error:
            return f"the appliance does not forward: {error}"
    return ""


def _recovered(door: Door, features: Features) -> str:
    """Why the appliance cannot be asked any more, "" if it can."""
    try:
        with door.open(features, "again", None) as rig:
            problem = rig.comes_up(_RECOVERY_S)
            if problem and Ability.PROCESS in door.abilities:
                problem = rig.restart()
            return problem
    except ApplianceError as error:
        return str(error)


@contextlib.contextmanager
def _limit(seconds: float) -> Iterator[None]:
    """Raise _TooLong after so many real seconds, where that is possible."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise _TooLong

    sooner = signal.getitimer(signal.ITIMER_REAL)[0]  # pytest-timeout's, for example
    if threading.current_thread() is not threading.main_thread() or 0 < sooner < seconds:
        yield  # nobody can interrupt, or somebody else will
        return
    before = signal.signal(signal.SIGALRM, stop)
    began = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if sooner:
            left = max(sooner - (time.monotonic() - began), 0.001)
            signal.setitimer(signal.ITIMER_REAL, left)
