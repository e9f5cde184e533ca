"""A run's files: report.json, junit.xml, and a capture for each case that was not met."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import msgspec

from appliance_sdk.conformance.case import Profile
from appliance_sdk.conformance.outcome import Outcome, Result
from appliance_sdk.conformance.report import Report, capture_name, keeps_capture
from appliance_sdk.errors import HarnessError
from appliance_sdk.harness.datagrams import Capture


def prepare(folder: Path) -> None:
    """Have the folder before the run, not after it. Raises HarnessError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").touch()
    except OSError as error:
        raise HarnessError(f"{error.filename or folder}: {error.strerror}") from None


def write_files(folder: Path, report: Report, results: Sequence[Result]) -> None:
    """Write them all; captures of an earlier run go away. Raises HarnessError."""
    try:
        for old in folder.glob("*-*.pcap"):
            old.unlink()
        encoded = msgspec.json.format(msgspec.json.encode(report), indent=2)
        (folder / "report.json").write_bytes(encoded + b"\n")
        (folder / "junit.xml").write_bytes(junit(results))
        for result in results:
            if keeps_capture(result):
                capture = Capture()
                capture.datagrams = list(result.datagrams)
                capture.write(folder / capture_name(result.case))
    except OSError as error:
        raise HarnessError(f"{error.filename or folder}: {error.strerror}") from None


def junit(results: Sequence[Result]) -> bytes:
    """JUnit's XML: what most CI systems show."""
    root = ElementTree.Element("testsuites", name="conformance")
    for profile in Profile:
        own = [one for one in results if one.case.profile is profile]
        if own:
            _suite(root, profile, own)
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _suite(root: ElementTree.Element, profile: Profile, results: Sequence[Result]) -> None:
    kinds = [_kind(one) for one in results]
    suite = ElementTree.SubElement(
        root,
        "testsuite",
        name=profile,
        tests=str(len(results)),
        failures=str(kinds.count("failure")),
        errors=str(kinds.count("error")),
        skipped=str(kinds.count("skipped")),
        time=f"{sum(one.took_s for one in results):.3f}",
    )
    for result, kind in zip(results, kinds, strict=True):
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=f"conformance.{profile}",
            name=result.case.id,
            time=f"{result.took_s:.3f}",
        )
        text = f"{result.outcome}: {result.detail}"
        if result.expected:
            text += f" (expected: {result.expected})"
        text = "".join(c if c.isprintable() else " " for c in text)
        if kind:
            element = ElementTree.SubElement(case, kind, message=text)
            element.text = f"{result.case.requirement}\n{result.case.reference}"
        elif result.outcome is not Outcome.PASS:
            ElementTree.SubElement(case, "system-out").text = text


def _kind(result: Result) -> str:
    if result.outcome is Outcome.UNSUPPORTED:
        return "skipped"
    if result.outcome is Outcome.ERROR:
        return "error"
    if result.outcome is Outcome.FAIL:
        return "skipped" if result.expected else "failure"
    return ""
