"""The report of a run as data: what `report.json` holds, and what two of them differ in."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from appliance_sdk.conformance.case import FEATURE_NAMES, Case, Profile
from appliance_sdk.conformance.features import Features
from appliance_sdk.conformance.outcome import Outcome, Result, Verdict, judge
from appliance_sdk.errors import ConfigError
from appliance_sdk.version import __version__

CONTRACT = "gwlb-1"
"""The version of what is required; it changes when a case is added, removed or made stricter."""
API_VERSION = "appliance-sdk/conformance/v1"


class Record(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of everything in a report."""


class Implementation(Record, frozen=True):
    """Whose appliance it is; any field may be ""."""

    organization: str = ""
    project: str = ""
    url: str = ""
    version: str = ""
    contact: str = ""


class Part(Record, frozen=True):
    """The cases of a profile that everybody is asked (core), or only some (extended)."""

    passed: int
    failed: int
    expected_failures: int
    non_strict: int
    info: int
    unsupported: int
    errors: int
    failed_cases: tuple[str, ...]


class ProfileReport(Record, frozen=True):
    """One profile."""

    name: str
    verdict: Verdict
    core: Part
    extended: Part
    supported_features: tuple[str, ...]
    unsupported_features: tuple[str, ...]


class CaseReport(Record, frozen=True):
    """One case."""

    id: str
    level: str
    profile: str
    outcome: Outcome
    requirement: str
    reference: str
    detail: str
    expected: str
    took_ms: float
    stimuli: str
    """Equal in two runs that asked the same."""
    capture: str
    """The pcap beside this file, "" if there is none."""


class Report(Record, frozen=True):
    """One run against one appliance."""

    api_version: str
    contract: str
    suite_version: str
    date: str
    """UTC, ISO 8601."""
    target: str
    implementation: Implementation
    strict: bool
    seed: str
    features: Features
    verdict: Verdict
    profiles: tuple[ProfileReport, ...]
    cases: tuple[CaseReport, ...]


def make_report(
    results: Sequence[Result],
    features: Features,
    target: str,
    *,
    seed: str = "0",
    strict: bool = False,
    implementation: Implementation | None = None,
) -> Report:
    """Everything that is to be said of these results."""
    used = [profile for profile in Profile if any(one.case.profile is profile for one in results)]
    return Report(
        api_version=API_VERSION,
        contract=CONTRACT,
        suite_version=__version__,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        target=target,
        implementation=implementation or Implementation(),
        strict=strict,
        seed=seed,
        features=features,
        verdict=judge(results, strict=strict),
        profiles=tuple(_profile(profile, results, features, strict) for profile in used),
        cases=tuple(_case(one) for one in results),
    )


def report_schema() -> bytes:
    """The JSON schema of a report."""
    schema = msgspec.json.encode(msgspec.json.schema(Report))
    return msgspec.json.format(schema, indent=2) + b"\n"


def read_report(path: Path) -> Report:
    """A report.json. Raises ConfigError."""
    try:
        report = msgspec.json.decode(path.read_bytes(), type=Report)
    except OSError as error:
        raise ConfigError(error.strerror or "cannot be read", path=str(path)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"no report of this suite: {error}", path=str(path)) from None
    if report.api_version != API_VERSION:
        raise ConfigError(f"{report.api_version} is not {API_VERSION}", path=str(path))
    return report


def capture_name(case: Case) -> str:
    """The file for what went over the wire in a case."""
    return case.id.replace("/", "-") + ".pcap"


def _profile(
    profile: Profile, results: Sequence[Result], features: Features, strict: bool
) -> ProfileReport:
    own = [one for one in results if one.case.profile is profile]
    needed = sorted({name for one in own for name in one.case.needs} & FEATURE_NAMES)
    return ProfileReport(
        name=profile,
        verdict=judge(own, strict=strict),
        core=_part([one for one in own if not one.case.extended]),
        extended=_part([one for one in own if one.case.extended]),
        supported_features=tuple(name for name in needed if getattr(features, name)),
        unsupported_features=tuple(name for name in needed if not getattr(features, name)),
    )


def _part(results: Sequence[Result]) -> Part:
    def count(outcome: Outcome) -> int:
        return sum(one.outcome is outcome and not one.expected for one in results)

    failed = [one for one in results if one.outcome is Outcome.FAIL]
    return Part(
        passed=sum(one.outcome is Outcome.PASS for one in results),
        failed=count(Outcome.FAIL),
        expected_failures=sum(
            bool(one.expected) and one.outcome in (Outcome.FAIL, Outcome.NON_STRICT)
            for one in results
        ),
        non_strict=count(Outcome.NON_STRICT),
        info=sum(one.outcome is Outcome.INFO for one in results),
        unsupported=sum(one.outcome is Outcome.UNSUPPORTED for one in results),
        errors=sum(one.outcome is Outcome.ERROR for one in results),
        failed_cases=tuple(one.case.id for one in failed),
    )


def _case(result: Result) -> CaseReport:
    case = result.case
    return CaseReport(
        id=case.id,
        level=case.level,
        profile=case.profile,
        outcome=result.outcome,
        requirement=case.requirement,
        reference=case.reference,
        detail=result.detail,
        expected=result.expected,
        took_ms=round(result.took_s * 1000, 1),
        stimuli=result.stimuli,
        capture=capture_name(case) if keeps_capture(result) else "",
    )


def keeps_capture(result: Result) -> bool:
    """Whether what went over the wire is worth a file."""
    return bool(result.datagrams) and result.outcome not in (Outcome.PASS, Outcome.UNSUPPORTED)
