"""docs/analytics.md says what is so: its output, its record, its tables, its configuration."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
from click.testing import CliRunner

from appliance_sdk import PluginConfig
from appliance_sdk.server.config import load_config
from reference_appliances.analytics import (
    Analytics,
    AnalyticsConfig,
    FlowRecords,
    FlowRecordsConfig,
)
from reference_appliances.analytics.application import _TO_CLIENT, _TO_SERVER, MOST_BYTES
from reference_appliances.analytics.cli import analytics
from reference_appliances.analytics.line import FlowLine
from reference_appliances.analytics.probe import MOST_PACKETS

PAGE = (Path(__file__).parents[3] / "docs" / "analytics.md").read_text(encoding="utf-8")
OFFICE = files("reference_appliances.firewall") / "examples" / "office.pcap"


def test_the_output_is_what_the_commands_print(tmp_path: Path) -> None:
    path = str(tmp_path / "flows.jsonl")
    assert CliRunner().invoke(analytics, ["replay", str(OFFICE), path]).exit_code == 0
    (shown,) = re.findall(r"```text\n(.*?)```", PAGE, re.S)
    assert CliRunner().invoke(analytics, ["top", "-n", "4", path]).stdout == shown
    (record,) = re.findall(r"```json\n(.*?)```", PAGE, re.S)
    written = [json.loads(line) for line in Path(path).read_text().splitlines()]
    assert json.loads(record) in written


def test_the_record_has_every_field() -> None:
    (record,) = re.findall(r"```json\n(.*?)```", PAGE, re.S)
    assert list(json.loads(record)) == ["record", *FlowLine.__struct_fields__]


@pytest.mark.parametrize("kind", [AnalyticsConfig, FlowRecordsConfig])
def test_every_setting_is_in_a_table(kind: type[PluginConfig]) -> None:
    name = "analytics" if kind is AnalyticsConfig else "flow-records"
    table = PAGE.partition(f"| `[plugins.{name}]` |")[2].partition("\n\n")[0]
    own = set(kind.__struct_fields__) - set(PluginConfig.__struct_fields__)
    assert set(re.findall(r"^\| `(\w+)`", table, re.M)) == own


def test_the_configuration_is_one(tmp_path: Path) -> None:
    path = tmp_path / "appliance.toml"
    path.write_text(re.findall(r"```toml\n(.*?)```", PAGE, re.S)[0])
    config = load_config(path)
    assert config.enabled()[0].plugin is Analytics
    (sink,) = config.sinks()
    assert sink.plugin is FlowRecords
    assert isinstance(sink.decoded(), FlowRecordsConfig)


def test_what_is_told_from_bytes() -> None:
    text = PAGE.partition("`application` is told")[2].partition("Else")[0]
    assert set(re.findall(r"`(\w+)`", text)) == {*_TO_SERVER, *_TO_CLIENT}
    assert f"{MOST_BYTES:,}" in text
    assert f"{MOST_PACKETS} packets" in " ".join(text.split())
