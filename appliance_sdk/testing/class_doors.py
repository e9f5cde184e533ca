"""One door to an appliance for all tests of a class, and what came of a case as pytest says it."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from appliance_sdk.conformance.features import Features
from appliance_sdk.conformance.openers import open_door
from appliance_sdk.conformance.outcome import Outcome, Result, surprising
from appliance_sdk.conformance.runner import Bracket
from appliance_sdk.errors import ApplianceError
from appliance_sdk.harness import InProcess, Subprocess
from appliance_sdk.plugin.base import Plugin


class _Open(NamedTuple):
    appliance: Any
    bracket: Bracket | None
    problem: str


class ClassDoors:
    """The door to what a class's `appliance` fixture returns, one for each plane.

    It stays open while the fixture returns the same object, or a recipe of the same appliance;
    for another one the appliance that was is ended.
    """

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._open: dict[str, _Open] = {}

    def bracket(self, appliance: Any, plane: str, features: Features) -> Bracket:
        """The way to ask it. Raises ApplianceError; of an appliance that does not come up, at
        once from the second time on."""
        inside = isinstance(appliance, InProcess) or (
            isinstance(appliance, type) and issubclass(appliance, Plugin)
        )
        plane = plane if inside else "udp"
        found = self._open.get(plane)
        if found is None or not _alike(found.appliance, appliance):
            self._end(plane)
            found = self._open[plane] = self._try(appliance, plane, features)
        if found.bracket is None:
            raise ApplianceError(found.problem)
        return found.bracket

    def close(self) -> None:
        """End every appliance that was started."""
        for plane in list(self._open):
            self._end(plane)

    def _try(self, appliance: Any, plane: str, features: Features) -> _Open:
        try:
            door = open_door(appliance, plane)
        except ApplianceError as error:
            return _Open(appliance, None, str(error))
        try:
            return _Open(appliance, Bracket(door, features, seed=self._seed), "")
        except ApplianceError as error:
            door.close()
            return _Open(appliance, None, str(error))
        except BaseException:  # Ctrl-C: nobody else knows of this door yet
            door.close()
            raise

    def _end(self, plane: str) -> None:
        found = self._open.pop(plane, None)
        if found is not None and found.bracket is not None:
            found.bracket.door.close()


def conclude(result: Result, *, strict: bool) -> None:
    """Skip the running test, fail it, or have its failure known."""
    __tracebackhide__ = True
    case = result.case
    if result.outcome is Outcome.UNSUPPORTED:
        pytest.skip(result.detail)
    if surprising(result) and strict:
        pytest.fail(f"it passes, and was expected to fail: {result.expected}", pytrace=False)
    if result.expected and result.outcome in (Outcome.FAIL, Outcome.NON_STRICT):
        raise pytest.xfail.Exception(result.expected)
    tolerated = {Outcome.PASS, Outcome.INFO} | (set() if strict else {Outcome.NON_STRICT})
    if result.outcome not in tolerated:
        required = f"required: {case.requirement} ({case.level}, {case.id})"
        text = f"{result.detail}\n{required}\nsource:   {case.reference}"
        pytest.fail(text, pytrace=False)


def _alike(one: Any, other: Any) -> bool:
    if one is other:
        return True
    kinds = InProcess, Subprocess
    if isinstance(one, kinds) and isinstance(other, kinds):
        return type(one) is type(other) and one.recipe == other.recipe
    return False
