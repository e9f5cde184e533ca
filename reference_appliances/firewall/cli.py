"""`appliance firewall`: ask a policy about flows, and watch it judge recorded traffic."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from appliance_sdk import ConfigError
from reference_appliances.firewall.matcher import Matcher
from reference_appliances.firewall.policy_file import read_policy
from reference_appliances.firewall.probe import judge_probe, parse_probe
from reference_appliances.firewall.report import aligned
from reference_appliances.firewall.ruleset import Ruleset

_COLOURS = {"allow": "green", "block": "red", "reject": "magenta", "drop": "yellow"}


class _Refused(click.ClickException):
    """What was given cannot be used."""

    exit_code = 2


@click.group()
def firewall() -> None:
    """The reference firewall: try a policy on flows or on a capture."""


@firewall.command("test")
@click.argument("policy", type=click.Path(path_type=Path))
@click.argument("flows", nargs=-1, required=True, metavar="FLOW...")
@click.option("--zone", default="default", show_default=True, help="Judge as in this zone.")
@click.option("--midstream", is_flag=True, help="As if the beginning of the flow was not seen.")
def test_command(policy: Path, flows: Sequence[str], zone: str, midstream: bool) -> None:
    """Say what POLICY does with each FLOW, and why.

    A FLOW is 'tcp 10.0.0.5:4000 -> 192.0.2.4:443', 'udp [fd00::5]:4000 -> [2001:db8::4]:53' or
    'icmp 10.0.0.5 -> 192.0.2.4'; the client's port may be left out.

    Exit status: 0 if all are allowed, 1 if one is not, 2 if POLICY or a FLOW cannot be read.
    """
    try:
        ruleset = read_policy(policy)
        probes = [parse_probe(text) for text in flows]
    except ConfigError as error:
        raise _Refused(str(error)) from error
    _warn(ruleset)
    matcher = Matcher(ruleset, zone)
    rows = [("verdict", "flow", "rule", "reason")]
    all_allowed = True
    for probe in probes:
        judgement = judge_probe(matcher, probe, midstream=midstream)
        verdict = judgement.verdict
        all_allowed &= judgement.allowed
        named = "allow" if judgement.allowed else verdict.name
        rows.append((named, str(probe), verdict.rule, verdict.reason))
    for line in aligned(rows, _coloured):
        click.echo(line)
    sys.exit(0 if all_allowed else 1)


def _coloured(padded: str, cell: str) -> str:
    colour = _COLOURS.get(cell)
    return click.style(padded, fg=colour) if colour else padded


def _warn(ruleset: Ruleset) -> None:
    for warning in ruleset.warnings:
        click.echo(f"warning: {warning}", err=True)
