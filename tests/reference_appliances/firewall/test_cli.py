"""`appliance firewall test` and `replay`, run as commands."""

from __future__ import annotations

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
