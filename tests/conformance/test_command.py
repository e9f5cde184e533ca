"""`appliance conformance` as people type it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from appliance_sdk.cli.conformance import conformance
from appliance_sdk.conformance.case import all_cases
from appliance_sdk.conformance.report import report_schema
from appliance_sdk.errors import HarnessError
from appliance_sdk.harness import Subprocess
from appliance_sdk.harness.process_tree import family
from appliance_sdk.wire.capture import read_capture

HERE = Path(__file__).parent
SOME = ["--case", "reply/once", "--case", "geneve/version", "--case", "tuple/icmp-error-of-flow"]

MODULE = """
from appliance_sdk import Appliance, Plugin, PluginConfig, Verdict

class GoodConfig(PluginConfig, frozen=True, kw_only=True):
    greeting: str = "none"

class Good(Appliance):
    name = "good"
    config: GoodConfig
    def flow_opened(self, flow):
        return Verdict.DROP if flow.packet.icmp_type == 3 else Verdict.DONE

class Bad(Plugin):
    name = "bad"
    def flow_opened(self, flow):
        return Verdict.DONE if flow.server_port == 7 else Verdict.BLOCK

if __name__ == "__main__":
    Good.main()
"""


def call(*arguments: str) -> Result:
    return CliRunner().invoke(conformance, list(arguments))


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MODULE)
    return path


def test_every_case_is_listed_with_what_it_requires() -> None:
    listed = call("list")
    assert listed.exit_code == 0
    for case in all_cases().values():
        assert case.id in listed.output
    assert len(json.loads(call("list", "--json").output)) == len(all_cases())
    only = call("list", "--profile", "flow").output
    assert "flow/connection" in only
    assert "geneve/version" not in only


def test_a_case_is_explained() -> None:
    explained = call("explain", "reply/two-nodes").output
    for part in ("MUST", "flowdog", "needs     nodes", "AWS guide"):
        assert part in explained


@pytest.mark.anyone
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explain", "geneve/versoin"], "did you mean `geneve/version`"),
        (["run", "127.0.0.1", "--profile", "transprot"], "did you mean `transport`"),
        (["run", "127.0.0.1", "--feature", "ipv7"], "no feature 'ipv7'"),
        (["run", "127.0.0.1", "--feature", "ipv6=maybe"], "neither true nor false"),
        (["run"], "which appliance?"),
        (["run", "127.0.0.1", "--exec", "x"], "not both"),
        (["run", "--exec", "mine {adress}"], "no place {adress} (did you mean `address`?)"),
        (["run", "--exec", "mine {colour}"], "no place {colour} (known: address, device,"),
        (["run", "--exec", "mine '{\"port\": 1}'"], "a brace of your own is doubled: {{"),
        (["run", "--exec", "mine {"], "a brace of your own is doubled: {{"),
        (["run", "--exec", " "], "--exec: the appliance's command is empty"),
        (["run", "--exec", "'"], "--exec: No closing quotation"),
        (["run", "127.0.0.1", "--netns"], "--netns is for what the suite starts"),
        (["run", "127.0.0.1", "a=b"], "settings are for plugins"),
        (["run", "127.0.0.1", "--expected", "/nowhere"], "/nowhere: no such file"),
        (["run", "127.0.0.1", "--update-expected"], "needs --expected"),
        (["run", "127.0.0.1", "--features", "/nowhere"], "/nowhere: no such file"),
        (["run", "127.0.0.1", "--implementation", "colour=blue"], "no such field"),
        (["run", "no-such-plugin"], "no-such-plugin"),
        (["run", "127.0.0.1", "--setup", "x.toml"], "--setup is for plugins"),
        (["run", "firewall", "--setup", "/nowhere"], "/nowhere: no such file"),
        (["run", "firewall", "polciy=x"], "did you mean `policy`"),
    ],
)
def test_mistakes_are_said_in_a_line(arguments: list[str], message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "appliance_sdk", "conformance", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_run_in_memory_and_its_files(module: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    bad = call("run", f"{module}:Bad", *SOME, "--out", str(out), "--implementation", "project=mine")
    assert bad.exit_code == 1
    assert "NOT CONFORMANT" in bad.output
    assert "required: A packet is returned once" in bad.output
    report = json.loads((out / "report.json").read_text())
    assert report["verdict"] == "NOT CONFORMANT"
    assert report["implementation"]["project"] == "mine"
    assert [case["id"] for case in report["cases"]] == [id for id in SOME if "/" in id]
    capture = out / report["cases"][0]["capture"]
    assert capture.name == "reply-once.pcap"
    assert len(list(read_capture(capture))) >= 2
    root = ElementTree.parse(out / "junit.xml").getroot()
    suite = root.find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures")) == ("3", "1")

    good = call("run", f"{module}:Good", *SOME, "--out", str(out))
    assert good.exit_code == 0
    assert "CONFORMANT" in good.output
    assert not (out / "reply-once.pcap").exists()


def test_strict_makes_a_should_count(module: Path) -> None:
    assert call("run", f"{module}:Good", *SOME).exit_code == 0
    strict = call("run", f"{module}:Good", *SOME, "--strict")
    assert strict.exit_code == 1
    assert "NON-STRICT  tuple/icmp-error-of-flow" in strict.output


def test_known_failures_are_written_read_and_missed_when_they_pass(
    module: Path, tmp_path: Path
) -> None:
    known = tmp_path / "expected.toml"
    arguments = [*SOME, "--expected", str(known)]
    assert call("run", f"{module}:Bad", *arguments, "--update-expected").exit_code == 0
    assert '"reply/once" = "one packet was answered 0 times"' in known.read_text()
    again = call("run", f"{module}:Bad", *arguments, "--strict")
    assert again.exit_code == 0
    better = call("run", f"{module}:Good", *arguments)
    assert better.exit_code == 0
    assert "reply/once passes, and was expected to fail" in better.output
    known.write_text('[expected]\n"reply/onec" = "?"\n')
    wrong = call("run", f"{module}:Good", *arguments)
    assert "reply/once" in str(wrong.exception)


def test_two_reports_are_compared(module: Path, tmp_path: Path) -> None:
    for name in ("Good", "Bad"):
        call("run", f"{module}:{name}", *SOME[:4], "--out", str(tmp_path / name))
    good, bad = (str(tmp_path / name / "report.json") for name in ("Good", "Bad"))
    worse = call("diff", good, bad)
    assert worse.exit_code == 1
    assert "worse  PASS -> FAIL  reply/once" in worse.output
    better = call("diff", bad, good)
    assert better.exit_code == 0
    assert "better FAIL -> PASS  reply/once" in better.output
    (tmp_path / "no.json").write_text("{}")
    assert "no report of this suite" in str(call("diff", good, str(tmp_path / "no.json")).exception)


def test_features_are_tried_and_said(module: Path) -> None:
    tried = call("run", f"{module}:Good", *SOME, "--features", "auto").output
    assert "ipv6 = true   # tried, and it works" in tried
    assert "drain = false  # not tried: as declared" in tried


@pytest.mark.anyone
def test_features_can_be_declared_in_a_file(module: Path, tmp_path: Path) -> None:
    template = call("features").output
    path = tmp_path / "features.toml"
    path.write_text(template.replace("ipv6 = true", "ipv6 = false"))
    done = call("run", f"{module}:Good", "--features", str(path))
    assert done.exit_code == 0
    assert "unsupported" in done.output
    path.write_text("ipv7 = true\n")
    assert "ipv6" in str(call("run", f"{module}:Good", "--features", str(path)).exception)


SETUP = """
appliance = "good"
profiles = ["flow"]
[settings]
greeting = "{here}"
[features]
midstream = false
"""


@pytest.mark.anyone
def test_what_lies_beside_a_plugin_says_how_it_is_asked(module: Path) -> None:
    setup = module.parent / "conformance.toml"
    setup.write_text(SETUP)
    done = call("run", f"{module}:Good")
    assert done.exit_code == 0, done.output
    assert f"settings and features: {setup}" in done.output
    assert "flow " in done.output
    assert "transport" not in done.output
    assert call("run", f"{module}:Good", "--profile", "all").output.count("CONFORMANT") == 2
    assert "transport" in call("run", f"{module}:Good", "--profile", "transport").output
    assert "settings and features" not in call("run", f"{module}:Bad", *SOME[:2]).output
    setup.rename(setup.with_name("other.toml"))
    given = call("run", f"{module}:Good", "--setup", str(setup.with_name("other.toml")), *SOME[:2])
    assert "other.toml" in given.output
    setup.write_text(SETUP.replace("midstream", "midstraem"))
    assert "did you mean `midstream`" in str(call("run", f"{module}:Good").exception)


def test_the_policy_is_shown_for_people_programs_and_suricata() -> None:
    folder = Path(call("policy", "--path").output.strip())
    assert call("policy").output == (folder / "policy.txt").read_text()
    assert call("policy", "--rules").output == (folder / "alerts.rules").read_text()
    assert json.loads(call("policy", "--json").output)["default"] == "drop"


def test_a_command_is_told_where_the_policy_and_the_events_are(tmp_path: Path) -> None:
    echo = HERE.parent / "support" / "echo_appliance.py"
    seen = tmp_path / "environment"
    script = f'env > {seen}; exec {sys.executable} {echo} "$1" "$2"'
    command = f"sh -c '{script}' - {{address}} {{health_port}}"
    done = call("run", "--exec", command, *SOME[:2])
    assert done.exit_code == 0, done.output
    environment = dict(line.partition("=")[::2] for line in seen.read_text().splitlines())
    policy = Path(environment["CONFORMANCE_POLICY"])
    assert json.loads(policy.read_text())["version"] == 1
    assert {path.name for path in policy.parent.iterdir()} >= {"policy.txt", "alerts.rules"}
    assert Path(environment["CONFORMANCE_EVENTS"]).name == "events.json"


def test_a_subclass_tests_itself(module: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(module), "conformance", "run", "--udp", *SOME],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "good over UDP" in done.stdout


def test_a_command_that_is_not_there_is_exit_status_3() -> None:
    done = call("run", "--exec", "/nowhere/mine {address}")
    assert done.exit_code == 3
    assert done.stderr == "ERROR  /nowhere/mine: No such file or directory\n"


def test_every_place_is_documented() -> None:
    page = (HERE.parents[1] / "docs" / "conformance.md").read_text()
    documented = set(re.findall(r"^\| `\{(\w+)\}`", page, re.M))
    assert documented == {"address", "port", "health_port", "origins", "device", "name"}
    with pytest.raises(HarnessError, match="known: " + ", ".join(sorted(documented))):
        Subprocess("{xyz}")


def test_every_place_is_filled(tmp_path: Path) -> None:
    echo = HERE.parent / "support" / "echo_appliance.py"
    script = tmp_path / "mine"
    script.write_text(f"#!/bin/sh\necho $* > {tmp_path}/said\nexec {sys.executable} {echo} $1 $3\n")
    script.chmod(0o755)
    places = "{address} {port} {health_port} {origins} {device} {name}"
    done = call("run", "--exec", f"{script} {places}", "--case", "reply/once")
    assert done.exit_code == 0
    said = (tmp_path / "said").read_text().split()
    assert said[0].startswith("127.")
    assert said[1:3] == ["6081", "8080"]
    assert said[3].endswith(".0.0/24")
    assert said[4:] == ["lo", "appliance"]


def test_nobody_there_is_exit_status_3() -> None:
    done = call("run", "127.0.0.1", "--start-timeout", "0.3")
    assert done.exit_code == 3
    assert "no plain packet within 0.3 s" in done.stderr


def test_called_in_a_program_it_leaves_its_signals_as_they_were(module: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert call("run", f"{module}:Good", *SOME[:2]).exit_code == 0
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.anyone
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing(signum: int, tmp_path: Path) -> None:
    script = tmp_path / "slow.py"
    pid_file = tmp_path / "pid"
    script.write_text(
        f"import os, time\nopen({str(pid_file)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
    )
    command = f"{sys.executable} {script}"
    arguments = ["conformance", "run", "--exec", command, "--start-timeout", "60"]
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "appliance_sdk", *arguments],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < deadline:
            time.sleep(0.02)
        child = int(pid_file.read_text())
        assert list(temporary.iterdir())
        process.send_signal(signum)
        assert process.wait(30) in (130, 143)
        assert not list(temporary.iterdir())
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)
    finally:
        process.kill()
        process.wait()


@pytest.mark.anyone
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_an_appliance_is_stopped_it_leaves_no_process(signum: int) -> None:
    script = HERE / "wrong_process.py"
    command = f"{sys.executable} {script} always-well {{address}} {{health_port}}"
    case = ["--case", "health/data-path-hangs", "--health-port", "18999"]
    process = subprocess.Popen(
        [sys.executable, "-m", "appliance_sdk", "conformance", "run", "--exec", command, *case],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    members: list[int] = []
    try:
        deadline = time.monotonic() + 60
        while not any(stopped(pid) for pid in members) and time.monotonic() < deadline:
            members = family(process.pid)
            time.sleep(0.02)
        assert len(members) >= 3  # the suite, and the appliance's
        process.send_signal(signum)
        assert process.wait(60) in (130, 143)
        # What guards the suite ends when it sees that the suite has.
        deadline = time.monotonic() + 20
        while left := [pid for pid in members if family(pid)]:
            assert time.monotonic() < deadline, left
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()


def stopped(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


def test_the_schema_of_a_report_is_the_one_in_the_documentation() -> None:
    path = HERE.parents[1] / "docs" / "conformance-report.schema.json"
    assert path.read_bytes() == report_schema()
