"""docs/ids.md says what is so: keywords, settings, examples and error messages."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest
from click.testing import CliRunner

from appliance_sdk import PluginConfig
from appliance_sdk.server.config import load_config
from reference_appliances.ids import Ids, IdsConfig
from reference_appliances.ids.cli import ids
from reference_appliances.ids.keywords import KEYWORDS
from reference_appliances.ids.lane import LOOKBACK, MOST_ARMED, MOST_MATCHED
from reference_appliances.ids.option import BUDGET
from reference_appliances.ids.parser import LONGEST_RULE, MOST_OPTIONS
from reference_appliances.ids.problems import RuleError
from reference_appliances.ids.rule import PROTOCOLS
from reference_appliances.ids.rule_files import MOST_BYTES
from reference_appliances.ids.settings import MidstreamFlows

from .conftest import MakeBench, parse

PAGE = (Path(__file__).parents[3] / "docs" / "ids.md").read_text(encoding="utf-8")
RULES, TABLE, ERRORS = re.findall(r"```text\n(.*?)```", PAGE, re.S)
EXAMPLE = files("reference_appliances.ids") / "examples" / "local.rules"
OFFICE = files("reference_appliances.firewall") / "examples" / "office.pcap"


def section(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def first_cells(text: str) -> set[str]:
    cells = re.findall(r"^\| (`.*?) \|", text, re.M)
    return {name for cell in cells for name in re.findall(r'`"?([\w-]+)"?`', cell)}


def test_every_keyword_is_in_the_table() -> None:
    assert first_cells(section("Keywords")) == set(KEYWORDS)


def test_every_protocol_is_named() -> None:
    head = section("Keywords").partition("\n|")[0]
    assert set(PROTOCOLS) <= set(re.findall(r"`([\w-]+)`", head))


def test_every_setting_is_in_the_table() -> None:
    own = set(IdsConfig.__struct_fields__) - set(PluginConfig.__struct_fields__)
    assert first_cells(section("Settings")) == own


def test_every_way_with_midstream_is_in_the_table() -> None:
    assert first_cells(section("Connections met in their middle")) == set(
        MidstreamFlows.__args__  # type: ignore[attr-defined]
    )


def test_the_limits() -> None:
    text = section("Cost and limits")
    for number in (BUDGET, LOOKBACK, MOST_ARMED, MOST_MATCHED, LONGEST_RULE, MOST_OPTIONS):
        assert re.search(rf"\b{number:,}\b", text)
    assert f"{MOST_BYTES >> 20} MiB" in text


def test_the_worked_example(tmp_path: Path) -> None:
    rules = tmp_path / "local.rules"
    rules.write_text(RULES)
    done = CliRunner().invoke(ids, ["replay", "--pcap", str(OFFICE), "--rules", str(rules)])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(TABLE)


def test_the_shipped_example_matches_the_shipped_capture() -> None:
    assert CliRunner().invoke(ids, ["check", str(EXAMPLE)]).exit_code == 0
    done = CliRunner().invoke(ids, ["replay", "--pcap", str(OFFICE), "--rules", str(EXAMPLE)])
    assert {"1:1000001:1", "1:1000002:1", "1:1000005:1"} <= set(done.stdout.split())


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        (1, "alert tcp any any -> any any (http.uri; sid:5;)"),
        (2, 'alert tcp any any -> any any (content:"a"; nocse; sid:6;)'),
        (3, "alert tcp $HOMENET any -> any any (sid:7;)"),
    ],
)
def test_the_error_messages(line: int, rule: str) -> None:
    with pytest.raises(RuleError) as caught:
        parse(rule)
    message = str(caught.value).replace("test.rules:7", f"local.rules:{line}")
    assert message in ERRORS.splitlines()


def test_the_configuration_of_the_appliance(tmp_path: Path) -> None:
    text = next(b for b in re.findall(r"```toml\n(.*?)```", PAGE, re.S) if "# appliance.toml" in b)
    path = tmp_path / "appliance.toml"
    path.write_text(text)
    (enabled,) = load_config(path).enabled()
    assert enabled.plugin is Ids
    config = enabled.decoded()
    assert isinstance(config, IdsConfig)
    assert config.variables["HOME_NET"] == "[10.0.0.0/8,fd00::/8]"


def test_the_alert_has_the_keys_that_are_shown(ids_bench: MakeBench) -> None:
    shown = set(re.findall(r'"(\w+)":', section("What is reported").partition('"alert": {')[2]))
    wanted = {"action", "signature", "signature_id", "gid", "rev", "category", "severity"}
    assert shown == wanted | {"metadata", "policy"}
