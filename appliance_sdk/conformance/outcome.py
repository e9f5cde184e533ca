"""What comes of a case, and of a run as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from appliance_sdk.conformance.case import Case, Level
from appliance_sdk.harness.datagrams import OuterDatagram


class Outcome(StrEnum):
    """The result of one case."""

    PASS = "PASS"
    FAIL = "FAIL"
    """A MUST is not met."""
    NON_STRICT = "NON-STRICT"
    """A SHOULD is not met: conformant all the same."""
    INFO = "INFO"
    """A MAY that the appliance does not do."""
    UNSUPPORTED = "UNSUPPORTED"
    """Not asked: it needs a feature that was not declared, or what this door cannot do."""
    ERROR = "ERROR"
    """The suite could not find out; never the appliance's fault alone."""


NOT_MET = {
    Level.MUST: Outcome.FAIL,
    Level.SHOULD: Outcome.NON_STRICT,
    Level.MAY: Outcome.INFO,
}


class Result(NamedTuple):
    """One case's outcome, with what was seen."""

    case: Case
    outcome: Outcome
    detail: str = ""
    """What the appliance did instead, or why it was not asked."""
    took_s: float = 0.0
    """Real seconds."""
    stimuli: str = ""
    """A digest of all that was sent: equal in two runs that asked the same."""
    datagrams: tuple[OuterDatagram, ...] = ()
    """What went over the wire, where the outcome is not PASS."""
    expected: str = ""
    """Why this failure is expected, "" if it is not."""


class Verdict(StrEnum):
    """What the results say of the appliance."""

    CONFORMANT = "CONFORMANT"
    NOT_CONFORMANT = "NOT CONFORMANT"
    UNKNOWN = "UNKNOWN"
    """Something could not be asked that should have been."""
    NOT_ASKED = "NOT ASKED"
    """Nothing was asked: no feature for it was declared, or this door cannot do it."""


EXIT_CODES = {
    Verdict.CONFORMANT: 0,
    Verdict.NOT_CONFORMANT: 1,
    Verdict.UNKNOWN: 3,
    Verdict.NOT_ASKED: 3,
}
"""What `appliance conformance run` ends with; 2 is a mistake of whoever typed it."""


def judge(results: Sequence[Result], *, strict: bool = False) -> Verdict:
    """The verdict on all results. With `strict` a SHOULD counts as a MUST, and a failure that was
    expected and did not happen is one."""
    if all(one.outcome is Outcome.UNSUPPORTED for one in results):
        return Verdict.NOT_ASKED
    failing = {Outcome.FAIL, Outcome.NON_STRICT} if strict else {Outcome.FAIL}
    if any(one.outcome in failing and not one.expected for one in results):
        return Verdict.NOT_CONFORMANT
    if any(one.outcome is Outcome.ERROR for one in results):
        return Verdict.UNKNOWN
    if strict and any(surprising(one) for one in results):
        return Verdict.NOT_CONFORMANT
    return Verdict.CONFORMANT


def surprising(result: Result) -> bool:
    """Whether a case passed that was expected to fail."""
    return result.outcome is Outcome.PASS and bool(result.expected)
