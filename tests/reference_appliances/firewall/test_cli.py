"""`appliance firewall test` and `replay`, run as commands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from reference_appliances.firewall.cli import firewall

POLICY = str(files("reference_appliances.firewall") / "examples" / "policy.toml")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(firewall, arguments)


class TestTest:
    def test_an_allowed_flow(self) -> None:
        result = run("test", POLICY, "tcp 10.20.0.10:4000 -> 10.30.0.80:443")
        assert result.exit_code == 0
        head, line = result.output.splitlines()
        assert head.split() == ["verdict", "flow", "rule", "reason"]
        assert line.startswith("allow    tcp 10.20.0.10:4000 -> 10.30.0.80:443  web   tcp to port")

    def test_one_that_is_not_allowed_makes_the_exit_status_1(self) -> None:
        allowed, refused = "icmp 10.20.0.10 -> 10.30.0.80", "tcp 10.20.0.10 -> 10.30.0.80:23"
        result = run("test", POLICY, allowed, refused)
        assert result.exit_code == 1
        assert [line.split()[0] for line in result.output.splitlines()] == [
            "verdict",
            "allow",
            "reject",
        ]
        assert "telnet sends passwords in the clear" in result.output

    def test_midstream(self) -> None:
        result = run("test", "--midstream", POLICY, "tcp 10.20.0.10 -> 10.30.0.80:443")
        assert result.exit_code == 1
        assert "reject" in result.output
        assert "midstream" in result.output

    def test_zone(self, tmp_path: Path) -> None:
        policy = tmp_path / "p.toml"
        policy.write_text('[[rule]]\nname = "a"\naction = "allow"\nzone = "prod"\n')
        flow = "47 10.0.0.1 -> 10.0.0.2"
        assert run("test", str(policy), flow).exit_code == 1
        assert run("test", str(policy), flow, "--zone", "prod").exit_code == 0

    def test_warnings_do_not_mix_with_the_table(self, tmp_path: Path) -> None:
        policy = tmp_path / "p.toml"
        rule = '[[rule]]\nname = "{}"\naction = "allow"\n'
        policy.write_text(rule.format("a") + rule.format("b"))
        result = run("test", str(policy), "47 10.0.0.1 -> 10.0.0.2")
        assert result.exit_code == 0
        assert "warning: rule `b` is never reached" in result.stderr
        assert "warning" not in result.stdout

    @pytest.mark.parametrize(
        ("text", "flow", "message"),
        [
            (
                '[[rule]]\nname="a"\naction="allow"\nprot=1',
                "47 10.0.0.1 -> 10.0.0.2",
                "`protocol`?",
            ),
            ("", "tcp 10.0.0.1 -> 10.0.0.2", "to which port?"),
            ("[", "47 10.0.0.1 -> 10.0.0.2", "is not TOML"),
        ],
    )
    def test_mistakes_make_the_exit_status_2(
        self, tmp_path: Path, text: str, flow: str, message: str
    ) -> None:
        policy = tmp_path / "p.toml"
        policy.write_text(text)
        result = run("test", str(policy), flow)
        assert result.exit_code == 2
        assert message in result.stderr
        assert "Traceback" not in result.output


class TestReplay:
    """Over real UDP, in an empty directory and without privileges if the tests have none."""

    @pytest.fixture(params=["--udp", "--memory"])
    def output(self, request: pytest.FixtureRequest, tmp_path: Path) -> str:
        return appliance(tmp_path, "replay", request.param).stdout

    def test_every_flow_has_verdict_rule_and_reason(self, output: str) -> None:
        lines = output.splitlines()
        assert lines[0].split() == ["verdict", "flow", "rule", "packets", "reason"]
        column = lines[0].index("rule")
        flows = lines[1 : lines.index("")]
        assert len(flows) > 30
        assert all(line[column - 2 : column] == "  " != line[column] for line in flows)
        assert any("udp 10.30.0.99:53 -> 10.20.0.10:5353" in line for line in flows)
        assert {line.split()[0] for line in flows} == {"allow", "block", "reject", "drop"}

    def test_hits_and_balance(self, output: str) -> None:
        assert re.search(r"^ +5  allow +web$", output, re.M)
        assert re.search(r"^ +4  block +no-inbound$", output, re.M)
        read, forwarded, dropped = map(
            int,
            re.search(r"^(\d+) packets read = (\d+) forwarded \+ (\d+) dr", output, re.M).groups(),  # type: ignore[union-attr]
        )
        assert read == forwarded + dropped
        assert "lost_on_the_way" not in output

    def test_both_ways_agree(self, tmp_path: Path) -> None:
        outputs = [appliance(tmp_path, "replay", way).stdout for way in ("--udp", "--memory")]
        tables = [output.split("\n\n")[:2] for output in outputs]
        assert tables[0] == tables[1]

    def test_another_policy_and_an_event_file(self, tmp_path: Path) -> None:
        (tmp_path / "p.toml").write_text('[[rule]]\nname = "all"\naction = "allow"\n')
        done = appliance(tmp_path, "replay", "--memory", "--policy", "p.toml", "--eve", "eve.json")
        verdicts = {line.split()[0] for line in done.stdout.split("\n\n")[0].splitlines()[1:]}
        assert verdicts == {"allow", "reject"}  # midstream is still rejected
        events = [json.loads(line) for line in (tmp_path / "eve.json").read_text().splitlines()]
        assert {"firewall_verdict", "flow"} <= {e["event_type"].replace("-", "_") for e in events}

    @pytest.mark.parametrize("arguments", [("none.pcap",), ("--policy", "none.toml")])
    def test_mistakes_make_the_exit_status_2(
        self, tmp_path: Path, arguments: tuple[str, ...]
    ) -> None:
        done = appliance(tmp_path, "replay", *arguments, status=2)
        assert "none." in done.stderr
        assert "Traceback" not in done.stderr


def appliance(
    directory: Path, *arguments: str, status: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run `appliance firewall …` as a program in a directory."""
    program = "from appliance_sdk.cli import main; main()"
    command = (sys.executable, "-c", program, "firewall", *arguments)
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == status, done.stderr
    return done
