"""`appliance ids replay` and `check`, run as commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from appliance_sdk.wire.capture import CaptureWriter
from reference_appliances.ids.cli import ids
from reference_appliances.ids.profile import Profile, settings_of
from reference_appliances.ids.settings import VARIABLES

from .conftest import handshake, to_server

RULES = """\
alert tcp any any -> any 80 (msg:"evil"; content:"evil"; classtype:trojan-activity; sid:1; rev:2;)
drop tcp any any -> any 80 (msg:"worse"; content:"worse"; sid:2;)
"""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(ids, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a capture, rules, and rules that cannot be used."""
    with CaptureWriter(tmp_path / "a.pcap") as capture:
        for number, packet in enumerate((*handshake(), to_server(b"an ev"), to_server(b"il", 5))):
            capture.write(1_700_000_000 + number, packet)
        capture.write(1_700_000_010, to_server(b" and worse", 7))
        capture.write(1_700_000_011, to_server(b" more", 17))
    (tmp_path / "a.rules").write_text(RULES)
    (tmp_path / "bad.rules").write_text(RULES + "alert http any any -> any any (sid:3;)\n")
    (tmp_path / "worse.rules").write_text('alert tcp any any -> any any (msg:"x";)\n' * 30)
    return tmp_path


def alerts(path: Path) -> list[dict[str, object]]:
    events = [json.loads(line) for line in path.read_text().splitlines()]
    return [event for event in events if event["event_type"] == "alert"]


def test_replay_writes_what_readers_of_eve_expect(folder: Path) -> None:
    eve = folder / "eve.json"
    done = run("replay", "--pcap", folder / "a.pcap", "--rules", folder / "a.rules", "--eve", eve)
    assert done.exit_code == 0, done.output
    assert "1  allowed  1:1:2  evil" in done.stdout
    first, second = alerts(eve)
    assert first["alert"] == {
        "action": "allowed",
        "signature": "evil",
        "signature_id": 1,
        "gid": 1,
        "rev": 2,
        "category": "Trojan activity",
        "severity": 1,
    }
    assert first["timestamp"] == "2023-11-14T22:13:24.000000+0000"
    assert (first["pcap_cnt"], second["pcap_cnt"]) == (5, 6)
    assert (first["src_ip"], first["dest_port"], first["proto"]) == ("10.0.0.1", 80, "TCP")
    assert first["direction"] == "to_server"


def test_prevention(folder: Path) -> None:
    eve = folder / "eve.json"
    capture, rules = folder / "a.pcap", folder / "a.rules"
    done = run("replay", "--pcap", capture, "--rules", rules, "--eve", eve, "--ips")
    assert done.exit_code == 0
    assert "7 packets read = 5 forwarded + 2 dropped (plugin_block 2)" in done.stdout
    assert [event["alert"]["action"] for event in alerts(eve)] == ["allowed", "blocked"]  # type: ignore[index]


def test_rules_that_cannot_be_used(folder: Path) -> None:
    arguments = ("replay", "--pcap", folder / "a.pcap", "--rules", folder / "bad.rules")
    refused = run(*arguments)
    assert refused.exit_code == 2
    assert "bad.rules:3: sid 3: `protocol http`" in refused.stderr
    done = run(*arguments, "--skip-unsupported")
    assert done.exit_code == 0
    assert "1 rules are left out:\n  " in done.stderr
    assert "bad.rules:3: sid 3: `protocol http`" in done.stderr


def test_the_event_file_is_there_even_if_nothing_happens(folder: Path) -> None:
    (folder / "none.rules").write_text("")
    eve = folder / "eve.json"
    capture, rules = folder / "a.pcap", folder / "none.rules"
    assert run("replay", "--pcap", capture, "--rules", rules, "--eve", eve).exit_code == 0
    assert alerts(eve) == []


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("--pcap", "none.pcap"),
        ("--rules", "none"),
        ("--eve", "gone/eve.json"),
        ("--profile", "a.rules"),
    ],
)
def test_mistakes_make_the_exit_status_2(folder: Path, option: str, name: str) -> None:
    given = {"--pcap": folder / "a.pcap", "--rules": folder / "a.rules", option: folder / name}
    done = run("replay", *(word for pair in given.items() for word in pair))
    assert done.exit_code == 2
    assert name in done.stderr
    assert "Traceback" not in done.output


def test_check_counts_by_keyword(folder: Path) -> None:
    assert run("check", folder / "a.rules").exit_code == 0
    done = run("check", folder / "bad.rules")
    assert done.exit_code == 1
    assert "2 of 3 rules can be used (66.7 %)" in done.stdout
    assert "    1  33.3 %  protocol http" in done.stdout
    listed = run("check", "--all", folder / "bad.rules")
    assert "bad.rules:3: sid 3: `protocol http`" in listed.stdout


def test_check_shows_mistakes_up_to_a_bound(folder: Path) -> None:
    done = run("check", folder / "worse.rules")
    assert "0 of 30 rules can be used (0.0 %)" in done.stdout
    assert done.stdout.count("has no sid") == 20
    assert "and 10 more: --all shows them" in done.stdout
    assert run("check", "--all", folder / "worse.rules").stdout.count("has no sid") == 30
    assert run("check", folder / "nothing").exit_code == 2


def test_other_classes(folder: Path) -> None:
    classes = folder / "classification.config"
    classes.write_text("# mine\nconfig classification: mine,My own,2\n")
    done = run("check", folder / "a.rules", "--classification", classes)
    assert "no class `trojan-activity`" in done.stdout
    classes.write_text("nonsense\n")
    done = run("check", folder / "a.rules", "--classification", classes)
    assert done.exit_code == 2
    assert "classification.config:1: is no class" in done.stderr


class TestProfile:
    def test_a_profile_is_settings(self, folder: Path) -> None:
        classes = folder / "classification.config"
        classes.write_text("config classification: trojan-activity,Trojan,4\n")
        profile = folder / "profile.json"
        profile.write_text(
            json.dumps(
                {
                    "mode": "ips",
                    "midstream": True,
                    "vars": {"address-groups.HOME_NET": "any", "port-groups.WEB": 80},
                    "action_order": ["pass", "drop", "reject", "alert"],
                    "classification_file": str(classes),
                    "checksums": False,
                    "eve": None,
                }
            )
        )
        eve = folder / "eve.json"
        given = {"--pcap": folder / "a.pcap", "--rules": folder / "a.rules", "--eve": eve}
        given["--profile"] = profile
        done = run("replay", *(word for pair in given.items() for word in pair))
        assert done.exit_code == 0, done.output
        first, second = alerts(eve)
        assert first["alert"]["category"] == "Trojan"  # type: ignore[index]
        assert second["alert"]["action"] == "blocked"  # type: ignore[index]

    @pytest.mark.parametrize(
        ("profile", "expected"),
        [
            (Profile(midstream=True), "inspect"),
            (Profile(), "packets"),
            (Profile(mode="ips"), "block"),
            (Profile(mode="ips", exception_policy="reject"), "reject"),
            (Profile(mode="ips", exception_policy="ignore"), "packets"),
            (Profile(mode="ips", stream={"midstream-policy": "ignore"}), "packets"),
        ],
    )
    def test_midstream(self, profile: Profile, expected: str) -> None:
        assert settings_of(profile)["midstream_flows"] == expected

    def test_variables_have_defaults(self) -> None:
        assert VARIABLES["EXTERNAL_NET"] == "!$HOME_NET"
        assert settings_of(Profile(vars={"port-groups.A": 1}))["vars"] == {"A": "1"}
