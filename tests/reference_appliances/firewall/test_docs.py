"""docs/firewall.md says what is so: its policy, its table and its error messages are run."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from appliance_sdk import ConfigError
from appliance_sdk.server.config import load_config
from reference_appliances.firewall import Firewall, FirewallConfig
from reference_appliances.firewall.matcher import Matcher
from reference_appliances.firewall.policy_file import _PolicyText, _RuleText, parse_policy
from reference_appliances.firewall.probe import judge_probe, parse_probe

PAGE = (Path(__file__).parents[3] / "docs" / "firewall.md").read_text(encoding="utf-8")
POLICY = next(b for b in re.findall(r"```toml\n(.*?)```", PAGE, re.S) if "# policy.toml" in b)
TABLE, ERRORS = re.findall(r"```text\n(.*?)```", PAGE, re.S)
ROWS = [re.split(r"\s{2,}", line) for line in TABLE.splitlines()[1:]]


@pytest.mark.parametrize(("verdict", "flow", "rule", "reason"), ROWS)
def test_the_worked_example(verdict: str, flow: str, rule: str, reason: str) -> None:
    ruleset = parse_policy(tomllib.loads(POLICY))
    assert ruleset.warnings == ()
    judgement = judge_probe(Matcher(ruleset, "default"), parse_probe(flow))
    named = judgement.verdict.name if judgement.verdict.terminal else "allow"
    assert (named, judgement.verdict.rule, judgement.verdict.reason) == (verdict, rule, reason)


@pytest.mark.parametrize(
    "more",
    ['prot = "tcp"', 'protocol = "tcp"\nport = "90-80"', 'source = "web-server"'],
)
def test_the_error_messages(more: str) -> None:
    text = f'[sets]\nweb-servers = []\n[[rule]]\nname = "web"\naction = "allow"\n{more}\n'
    with pytest.raises(ConfigError) as caught:
        parse_policy(tomllib.loads(text), path="policy.toml")
    assert str(caught.value) in ERRORS.splitlines()


def test_the_configuration_of_the_appliance(tmp_path: Path) -> None:
    text = next(b for b in re.findall(r"```toml\n(.*?)```", PAGE, re.S) if "# appliance.toml" in b)
    path = tmp_path / "appliance.toml"
    path.write_text(text)
    config = load_config(path)
    (enabled,) = config.enabled()
    assert enabled.plugin is Firewall
    assert isinstance(enabled.decoded(), FirewallConfig)


def test_every_key_is_described() -> None:
    keys = set(re.findall(r"^\| `\[?(\w+)\]?` \|", PAGE, re.M))
    fields = {*_RuleText.__struct_fields__, *_PolicyText.__struct_fields__} - {"rule"}
    assert keys == fields
