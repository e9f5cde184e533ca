"""A run as text for people: a line per profile, and whatever is not as it should be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from appliance_sdk.conformance.outcome import Outcome, Result, surprising
from appliance_sdk.conformance.report import Part, Report, capture_name, keeps_capture

_SHOWN = (Outcome.FAIL, Outcome.ERROR, Outcome.NON_STRICT)


def report_lines(report: Report, results: Sequence[Result], folder: str = "") -> Iterator[str]:
    """The report; `folder` is where captures are."""
    yield f"conformance {report.suite_version}, contract {report.contract}: {report.target}"
    width = max((len(profile.name) for profile in report.profiles), default=0)
    for profile in report.profiles:
        text = f"  {profile.name:<{width}}  core {_counts(profile.core)}"
        if _total(profile.extended):
            text += f"  extended {_counts(profile.extended)}"
        yield f"{text}  {profile.verdict}"
    for result in results:
        if result.outcome in _SHOWN and not result.expected:
            yield from _problem(result, folder)
    expected = [one for one in results if one.expected and one.outcome in _SHOWN]
    if expected:
        yield f"{len(expected)} failures were expected"
    for result in results:
        if surprising(result):
            yield f"  {result.case.id} passes, and was expected to fail: {result.expected}"
    yield str(report.verdict)


def result_line(result: Result) -> str:
    """One case in a line."""
    took = f"  {result.took_s * 1000:.0f} ms" if result.took_s else ""
    detail = f"  {result.detail}" if result.detail else ""
    known = f"  (expected: {result.expected})" if result.expected else ""
    return f"{result.outcome:<11}  {result.case.id}{took}{detail}{known}"


def _problem(result: Result, folder: str) -> Iterator[str]:
    case = result.case
    yield f"{result.outcome}  {case.id}  {case.level}"
    yield f"    required: {case.requirement}"
    yield f"    seen:     {result.detail}"
    yield f"    source:   {case.reference}"
    if folder and keeps_capture(result):
        yield f"    capture:  {folder.rstrip('/')}/{capture_name(case)}"


def _total(part: Part) -> int:
    return (
        part.passed
        + part.failed
        + part.expected_failures
        + part.non_strict
        + part.info
        + part.unsupported
        + part.errors
    )


def _counts(part: Part) -> str:
    asked = _total(part) - part.unsupported
    more = [
        f"{count} {name}"
        for count, name in (
            (part.non_strict, "non-strict"),
            (part.info, "info"),
            (part.expected_failures, "expected to fail"),
            (part.errors, "errors"),
            (part.unsupported, "unsupported"),
        )
        if count
    ]
    return f"{part.passed}/{asked}" + (f" ({', '.join(more)})" if more else "")
