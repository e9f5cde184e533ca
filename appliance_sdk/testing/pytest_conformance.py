"""pytest's side of the conformance suite: the fixture that its test classes ask by, and outcomes.

A MUST that is not met fails its test, a SHOULD only with --gwlb-strict: otherwise it is told as
NON-STRICT. What is not the appliance's fault is an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from appliance_sdk.conformance.outcome import Result
    from appliance_sdk.harness.datagrams import Capture
    from appliance_sdk.testing.class_doors import ClassDoors

_RESULT = pytest.StashKey[Any]()
_CASE, _OUTCOME, _SEEN = "conformance_case", "conformance_outcome", "conformance_seen"
"""Properties of a test's report: they are in JUnit's XML too, and come over from xdist."""
_ORDER = ("PASS", "FAIL", "NON-STRICT", "INFO", "UNSUPPORTED", "ERROR")


def pytest_addoption(parser: pytest.Parser) -> None:
    """pytest's hook."""
    group = parser.getgroup("gwlb")
    group.addoption(
        "--gwlb-strict",
        action="store_true",
        help="conformance: a SHOULD counts as a MUST, a known failure that passes as a failure",
    )
    group.addoption(
        "--gwlb-expected", metavar="FILE", help="conformance: known failures, with reasons (TOML)"
    )
    group.addoption(
        "--gwlb-seed", default="0", help="conformance: other addresses, ports and cookies"
    )


@pytest.fixture(scope="class")
def _gwlb_doors(request: pytest.FixtureRequest) -> Iterator[ClassDoors]:
    from appliance_sdk.testing.class_doors import ClassDoors

    doors = ClassDoors(request.config.getoption("--gwlb-seed"))
    try:
        yield doors
    finally:
        doors.close()


@pytest.fixture
def gwlb_conformance(
    request: pytest.FixtureRequest,
    appliance: Any,
    gwlb_plane: str,
    capture: Capture,
    _gwlb_doors: ClassDoors,
) -> Callable[[str], None]:
    """Asks the appliance a case of the conformance suite, by id: "geneve/version"."""
    from appliance_sdk.conformance.case import all_cases
    from appliance_sdk.conformance.features import Features
    from appliance_sdk.errors import ApplianceError
    from appliance_sdk.testing.class_doors import conclude

    features = getattr(request.cls, "features", None) or Features()
    try:
        expected = _expected(request)
        bracket = _gwlb_doors.bracket(appliance, gwlb_plane, features)
    except ApplianceError as error:
        pytest.fail(str(error), pytrace=False)

    def ask(id: str) -> None:
        __tracebackhide__ = True
        case = all_cases()[id]
        result = bracket.ask(case, features)._replace(expected=expected.get(id, ""))
        _keep(request.node, result)
        capture.datagrams.extend(result.datagrams)
        conclude(result, strict=request.config.getoption("--gwlb-strict"))

    return ask


def _expected(request: pytest.FixtureRequest) -> dict[str, str]:
    from appliance_sdk.conformance.expected import read_expected

    reasons = {}
    option = request.config.getoption("--gwlb-expected")
    if option:
        reasons.update(read_expected(request.config.invocation_params.dir / option))
    own = getattr(request.cls, "expected", "")
    if own:
        reasons.update(read_expected(request.path.parent / Path(own)))
    return reasons


def _keep(item: pytest.Item, result: Result) -> None:
    item.stash[_RESULT] = result
    properties = {_CASE: result.case.id, _OUTCOME: str(result.outcome), _SEEN: result.detail}
    item.user_properties.extend(properties.items())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """pytest's hook: a known failure that passes is told as XPASS."""
    report = yield
    result = item.stash.get(_RESULT, None)
    if report.when == "call" and report.passed and result is not None and result.expected:
        report.wasxfail = result.expected
    return report


def pytest_report_teststatus(
    report: pytest.TestReport,
) -> tuple[str, str, str | tuple[str, dict[str, bool]]] | None:
    """pytest's hook: NON-STRICT, INFO and ERROR are words of their own."""
    outcome = _properties(report).get(_OUTCOME)
    if report.when != "call" or hasattr(report, "wasxfail"):
        return None
    if outcome == "ERROR" and report.failed:
        return "error", "E", "ERROR"
    if outcome == "NON-STRICT" and report.passed:
        return "non-strict", "n", ("NON-STRICT", {"yellow": True})
    if outcome == "INFO" and report.passed:
        return "info", "i", ("INFO", {"cyan": True})
    return None


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """pytest's hook: a line for each class, and what is not as it could be."""
    classes: dict[str, list[pytest.TestReport]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "call" and _OUTCOME in _properties(report):
                classes.setdefault(report.nodeid.rpartition("::")[0], []).append(report)
    if not classes:
        return
    terminalreporter.section("conformance")
    for name, reports in sorted(classes.items()):
        counts = Counter(_properties(report)[_OUTCOME] for report in reports)
        text = ", ".join(f"{counts[word]} {word}" for word in _ORDER if counts[word])
        terminalreporter.write_line(f"{name}  {text}")
        for report in reports:
            told = _properties(report)
            if report.passed and told[_OUTCOME] in ("NON-STRICT", "INFO"):
                terminalreporter.write_line(f"  {told[_OUTCOME]}  {told[_CASE]}: {told[_SEEN]}")


def _properties(report: Any) -> dict[str, str]:
    return dict(getattr(report, "user_properties", ()))
