"""The conformance suite as a vendor's own test classes, in a pytest of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
from inner_pytest import pytest_command, run_pytest

from appliance_sdk import Plugin, Verdict
from appliance_sdk.conformance import Features, TransportTests
from appliance_sdk.conformance.case import Profile, all_cases
from appliance_sdk.conformance.suites import CaseTests
from appliance_sdk.harness import InProcess, Subprocess
from appliance_sdk.testing.class_doors import ClassDoors
from appliance_sdk.wire.capture import read_capture

pytestmark = [pytest.mark.anyone, pytest.mark.timeout(300)]  # a busy machine takes its time

HERE = Path(__file__).parent
ECHO = HERE.parent / "support" / "echo_appliance.py"
BAD = HERE / "bad_appliance.py"

MINE = """\
from appliance_sdk import Plugin, Verdict

class Good(Plugin):
    name = "good"
    def flow_opened(self, flow):
        return Verdict.DONE

class Blind(Plugin):
    name = "blind"
    def flow_opened(self, flow):
        return Verdict.DONE if flow.server_port == 7 else Verdict.BLOCK

class Lax(Plugin):
    name = "lax"
    def flow_opened(self, flow):
        return Verdict.DROP if flow.packet.icmp_type == 3 else Verdict.DONE

class Broken(Plugin):
    name = "broken"
    def flow_opened(self, flow):
        return Verdict.BLOCK
"""
HEAD = """\
import pytest
from appliance_sdk.conformance import Features, FlowTests, TransportTests
from mine import Blind, Broken, Good, Lax

@pytest.fixture
def appliance():
    return Good

"""
TRANSPORT = HEAD + "class TestTransport(TransportTests):\n    pass\n"
ONE = "test_reply__once"
SHOULD = "test_tuple__icmp_error_of_flow"
"""What the appliance `Lax` does not do."""


def vendor(folder: Path, *options: str, test: str = TRANSPORT) -> subprocess.CompletedProcess[str]:
    return run_pytest(folder, *options, mine=MINE, test_mine=test)


def appliance(expression: str, test: str = TRANSPORT) -> str:
    return test.replace("return Good", f"return {expression}")


def test_every_case_of_a_profile_is_a_test_that_says_what_it_requires() -> None:
    for profile in Profile:
        made = type("Made", (CaseTests,), {}, profile=profile)
        names = [name for name in vars(made) if name.startswith("test_")]
        cases = [case for case in all_cases().values() if case.profile is profile]
        assert names == [case.test_name for case in cases]
    documentation = TransportTests.test_geneve__version.__doc__  # type: ignore[attr-defined]
    assert all_cases()["geneve/version"].requirement in documentation
    assert "RFC 8926" in documentation


def test_the_cases_need_no_pytest() -> None:
    code = "import sys; from appliance_sdk.conformance import TransportTests; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert "pytest" not in done.stdout.split()


def test_two_profiles_in_memory(tmp_path: Path) -> None:
    more = "class TestFlow(FlowTests):\n    features = Features(midstream=False)\n"
    done = vendor(tmp_path, "-rs", test=TRANSPORT + more)
    assert done.returncode == 0, done.stdout
    assert "feature midstream is not declared" in done.stdout
    assert "feature every_address is not declared" in done.stdout
    assert "test_mine.py::TestFlow  " in done.stdout


def test_over_udp_the_class_has_one_process(tmp_path: Path) -> None:
    test = TRANSPORT.replace("    return Good", f"    return Subprocess({str(tmp_path / 'one')!r})")
    test = test.replace("import pytest", "import pytest\nfrom appliance_sdk.testing import *")
    script = f"#!/bin/sh\necho $$ >> {tmp_path}/pids\nexec {sys.executable} {ECHO} $1 $2\n"
    (tmp_path / "one").write_text(script)
    (tmp_path / "one").chmod(0o755)
    test = test.replace("/one'", "/one {address} {health_port}'")
    done = vendor(tmp_path, "-k", "test_reply", test=test)
    assert done.returncode == 0, done.stdout
    pids = (tmp_path / "pids").read_text().split()
    assert len(pids) == 1
    assert gone(int(pids[0]))


@pytest.mark.parametrize("scope", ["function", "class"])
def test_one_that_the_vendor_starts(tmp_path: Path, scope: str) -> None:
    """Also when the fixture starts another one on the same address for each test."""
    test = f"""
import pytest, subprocess, sys
from appliance_sdk.conformance import Running, TransportTests

@pytest.fixture(scope={scope!r})
def appliance():
    address = "127.93.77.21"
    command = [sys.executable, {str(ECHO)!r}, address, "8080"]
    with subprocess.Popen(command) as process:
        yield Running(address)
        process.kill()

class TestTransport(TransportTests):
    pass
"""
    done = run_pytest(tmp_path, "-k", "reply__once or reply__two or inner__ping", test_mine=test)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_one_parameter_runs_both_planes(tmp_path: Path) -> None:
    both = '@pytest.mark.parametrize("gwlb_plane", ["memory", "udp"])\nclass Test'
    done = vendor(tmp_path, "-v", "-k", "reply__", test=TRANSPORT.replace("class Test", both))
    assert done.returncode == 0, done.stdout
    assert f"{ONE}[memory] PASSED" in done.stdout
    assert f"{ONE}[udp] PASSED" in done.stdout
    checksums = "test_reply__outer_checksum"
    assert f"{checksums}[memory] SKIPPED" in done.stdout
    assert f"{checksums}[udp] PASSED" in done.stdout


def test_a_must_that_is_not_met_fails_and_says_what_was_seen(tmp_path: Path) -> None:
    options = "-k", ONE, f"--basetemp={tmp_path / 'base'}"
    done = vendor(tmp_path, *options, test=appliance("Blind"))
    assert done.returncode == 1
    assert f"FAILED test_mine.py::TestTransport::{ONE} - Failed: one packet was" in done.stdout
    assert "required: A packet is returned once, not twice." in done.stdout
    assert "source:   every packet that is sent twice" in done.stdout
    assert "Traceback" not in done.stdout
    assert ".py:" not in done.stdout.replace("test_mine.py:", "")
    path = tmp_path / "base" / "gwlb0" / "gwlb.pcapng"
    assert str(path) in done.stdout
    assert len(list(read_capture(path))) == 3


def test_a_should_is_told_and_passes_unless_strict(tmp_path: Path) -> None:
    done = vendor(tmp_path, "-v", "-k", SHOULD, test=appliance("Lax"))
    assert done.returncode == 0
    assert f"{SHOULD} NON-STRICT" in done.stdout
    assert "NON-STRICT  tuple/icmp-error-of-flow: the packet was not returned" in done.stdout
    assert "1 non-strict" in done.stdout
    strict = vendor(tmp_path, "-k", SHOULD, "--gwlb-strict", test=appliance("Lax"))
    assert strict.returncode == 1
    assert "1 failed" in strict.stdout


def test_a_may_is_information(tmp_path: Path) -> None:
    name = "test_geneve__network_identifier"
    done = vendor(tmp_path, "-v", "-k", name, "--gwlb-strict", test=appliance("Blind"))
    assert done.returncode == 0
    assert f"{name} INFO" in done.stdout
    assert "1 info" in done.stdout


def test_what_the_suite_cannot_find_out_is_an_error(tmp_path: Path) -> None:
    done = vendor(tmp_path, "-k", "reply__", test=appliance("Broken"))
    assert done.returncode == 1
    assert "the appliance does not forward: a plain packet sent afterwards" in done.stdout
    assert "failed" not in done.stdout.splitlines()[-1]
    assert f"ERROR test_mine.py::TestTransport::{ONE}" in done.stdout


def test_an_appliance_that_does_not_come_up_is_waited_for_once(tmp_path: Path) -> None:
    command = [sys.executable, str(BAD), "exits", "{address}"]
    test = HEAD + "from appliance_sdk.conformance import Subprocess\n" + TRANSPORT[len(HEAD) :]
    done = vendor(tmp_path, "-k", "reply__", test=appliance(f"Subprocess({command})", test))
    assert done.returncode == 1
    assert "it ended with status 7 and said: no licence found" in done.stdout
    assert "Traceback" not in done.stdout
    assert "passed" not in done.stdout


def test_without_an_appliance_each_test_says_what_to_write(tmp_path: Path) -> None:
    test = "from appliance_sdk.conformance import *\nclass TestIt(TransportTests): ..."
    done = vendor(tmp_path, "-k", ONE, test=test)
    assert done.returncode == 1
    assert "define a fixture `appliance` that returns your appliance" in done.stdout
    assert len(done.stdout.splitlines()) < 20


def test_a_case_is_skipped_by_defining_its_method_again(tmp_path: Path) -> None:
    own = f'    def {ONE}(self):\n        pytest.skip("our card drops them")\n'
    done = vendor(tmp_path, "-rs", "-k", ONE, test=TRANSPORT + own)
    assert done.returncode == 0
    assert "our card drops them" in done.stdout
    assert "1 skipped" in done.stdout


@pytest.mark.parametrize("where", ["class", "option"])
def test_known_failures(tmp_path: Path, where: str) -> None:
    known = tmp_path / "known.toml"
    known.write_text('[expected]\n"reply/once" = "it is blind"\n"geneve/version" = "it is"\n')
    test = appliance("Blind")
    options = ["-v", "-rxX", "-k", f"{ONE} or geneve__version"]
    if where == "class":
        test += '    expected = "known.toml"\n'
    else:
        options.append("--gwlb-expected=known.toml")
    done = vendor(tmp_path, *options, test=test)
    assert done.returncode == 0, done.stdout
    assert f"XFAIL test_mine.py::TestTransport::{ONE} - it is blind" in done.stdout
    assert "XPASS test_mine.py::TestTransport::test_geneve__version - it is" in done.stdout
    strict = vendor(tmp_path, *options, "--gwlb-strict", test=test)
    assert strict.returncode == 1
    assert "it passes, and was expected to fail: it is" in strict.stdout
    known.write_text('[expected]\n"reply/onec" = "it is blind"\n')
    wrong = vendor(tmp_path, *options, test=test)
    assert wrong.returncode == 1
    assert 'known.toml: expected."reply/onec": no such case (did you mean' in wrong.stdout


def test_junit_has_the_outcome(tmp_path: Path) -> None:
    vendor(tmp_path, "-k", SHOULD, "--junitxml=report.xml", test=appliance("Lax"))
    root = ElementTree.parse(tmp_path / "report.xml").getroot()
    properties = {p.get("name"): p.get("value") for p in root.iter("property")}
    assert properties["conformance_case"] == "tuple/icmp-error-of-flow"
    assert properties["conformance_outcome"] == "NON-STRICT"


def test_a_timeout_of_the_vendors_own_still_counts(tmp_path: Path) -> None:
    own = f"""\
    def {ONE}(self, gwlb_conformance):
        gwlb_conformance("reply/once")
        import time
        time.sleep(60)
"""
    for timeout in ("--timeout=3", "--timeout=90"):
        kept = own.replace("60", "60" if timeout.endswith("=3") else "0")
        done = vendor(tmp_path, "-k", ONE, timeout, test=TRANSPORT + kept)
        assert ("Timeout" in done.stdout) is (timeout == "--timeout=3"), done.stdout


class Forwarder(Plugin):
    """Forwards everything."""

    name = "forwarder"

    def flow_opened(self, flow: object) -> Verdict:
        return Verdict.DONE


def test_recipes_that_are_alike_share_a_door() -> None:
    doors = ClassDoors("0")
    try:
        first = doors.bracket(InProcess(Forwarder), "memory", Features())
        assert doors.bracket(InProcess(Forwarder), "memory", Features()) is first
        other = doors.bracket(InProcess(Forwarder, midstream="drop"), "memory", Features())
        assert other is not first
        assert Subprocess("a {address}").recipe == Subprocess("a {address}").recipe
        assert Subprocess("a {address}").recipe != Subprocess("b {address}").recipe
    finally:
        doors.close()


SLOW = """\
    def test_reply__once(self, gwlb_conformance):
        gwlb_conformance("reply/once")
        open("ready", "w").close()
        import time
        time.sleep(60)
"""


@pytest.mark.parametrize("mode", ["", "silent"])
def test_interrupted_it_leaves_no_process(tmp_path: Path, mode: str) -> None:
    """While a test runs, and while an appliance is waited for that does not come up."""
    program = f"{BAD} {mode or 'plain'}"
    script = f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec {sys.executable} {program} $1\n"
    (tmp_path / "one").write_text(script)
    (tmp_path / "one").chmod(0o755)
    test = HEAD + "from appliance_sdk.conformance import Subprocess\n" + TRANSPORT[len(HEAD) :]
    command = f"{tmp_path}/one {{address}}"
    (tmp_path / "test_mine.py").write_text(appliance(f"Subprocess({command!r})", test) + SLOW)
    (tmp_path / "mine.py").write_text(MINE)
    process = subprocess.Popen(
        pytest_command("-k", ONE),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 60
        ready = tmp_path / ("pid" if mode else "ready")
        while not (ready.exists() and (mode == "" or ready.read_text())):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 2, output
    assert gone(int((tmp_path / "pid").read_text()))


def gone(pid: int) -> bool:
    """Whether a process that was there has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
