"""Asks an appliance that is right, or wrong, every case of its profiles."""

from __future__ import annotations

from collections.abc import Collection

from appliance_sdk.conformance.case import Case, Profile, all_cases
from appliance_sdk.conformance.doors import MemoryDoor
from appliance_sdk.conformance.outcome import Outcome, Result
from appliance_sdk.conformance.runner import run_cases
from mutants.mutant import BRACKET, MUTANTS, Mutant
from mutants.right import Right

MET = (Outcome.PASS, Outcome.UNSUPPORTED)


def cases_for(kind: type[Right], profiles: Collection[Profile] = ()) -> list[Case]:
    """Every case of these profiles, by default of all that the appliance is right in."""
    asked = profiles or kind.profiles
    return [case for case in all_cases().values() if case.profile in asked]


def asked_cases() -> list[Case]:
    """Every case of the profiles for which there are mutants."""
    profiles = {profile for mutant in MUTANTS.values() for profile in mutant.make.profiles}
    return [case for case in all_cases().values() if case.profile in profiles]


def concerned(mutant: Mutant) -> set[Profile]:
    """The profiles that have something to catch it with."""
    return {case.profile for id, case in all_cases().items() if id in mutant.catches}


def ask(kind: type[Right], profiles: Collection[Profile] = ()) -> list[Result]:
    """Every case of these profiles, a new appliance for each."""
    cases = cases_for(kind, profiles)
    return run_cases(cases, MemoryDoor(kind, kind.__name__), kind.features)


def caught_by(results: list[Result]) -> set[str]:
    """The ids of the cases that failed; "bracket" if no plain packet came back."""
    if any(one.outcome is Outcome.ERROR for one in results):
        return {BRACKET}
    return {one.case.id for one in results if one.outcome not in MET}
