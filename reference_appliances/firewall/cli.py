"""`appliance firewall`: ask a policy about flows, and watch it judge recorded traffic."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.resources import as_file, files
from pathlib import Path

import click

from appliance_sdk import ApplianceError
from appliance_sdk.cli.replay import print_balance
from appliance_sdk.cli.shipped import replay_with
from appliance_sdk.cli.text import coloured, table
from reference_appliances.firewall.firewall import Firewall
from reference_appliances.firewall.matcher import Matcher
from reference_appliances.firewall.policy_file import read_policy
from reference_appliances.firewall.probe import judge_probe, parse_probe
from reference_appliances.firewall.report import Hits, Row, flow_rows, hit_rows
from reference_appliances.firewall.ruleset import LIMIT, Ruleset

_FLOW_HEAD = Row("verdict", "flow", "rule", "packets", "reason")
_HITS_HEAD = Hits("hits", "action", "rule")


class _Refused(click.ClickException):
    """What was given cannot be used."""

    exit_code = 2


@click.group()
def firewall() -> None:
    """The reference firewall: try policies on flows and captures."""


@firewall.command("test")
@click.argument("policy", type=click.Path(path_type=Path))
@click.argument("flows", nargs=-1, required=True, metavar="FLOW...")
@click.option("--zone", default="default", show_default=True, help="Judge as in this zone.")
@click.option("--midstream", is_flag=True, help="As if the beginning of the flow was not seen.")
def test_command(policy: Path, flows: Sequence[str], zone: str, midstream: bool) -> None:
    """Say what POLICY does with each FLOW, and why.

    \b
    A FLOW is written like one of these; the client's port may be left out:
      'tcp 10.0.0.5:4000 -> 192.0.2.4:443'
      'udp [fd00::5]:4000 -> [2001:db8::4]:53'
      'icmp 10.0.0.5 -> 192.0.2.4'

    Exit status: 0 if all are allowed, 1 if one is not, 2 if POLICY or a FLOW cannot be read.
    """
    try:
        ruleset = read_policy(policy)
        probes = [parse_probe(text) for text in flows]
    except ApplianceError as error:
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
    for line in table(rows, coloured):
        click.echo(line)
    sys.exit(0 if all_allowed else 1)


@firewall.command("replay", short_help="Judge a capture; every flow with verdict and reason.")
@click.argument("capture", required=False, type=click.Path(path_type=Path))
@click.option("--policy", type=click.Path(path_type=Path), help="Default: the shipped example.")
@click.option(
    "--udp/--memory",
    default=True,
    show_default=True,
    help="As real GENEVE over loopback, at full speed; or in memory, at the capture's own time.",
)
@click.option("--eve", type=click.Path(path_type=Path), help="Append the events to this file.")
def replay_command(capture: Path | None, policy: Path | None, udp: bool, eve: Path | None) -> None:
    """Send CAPTURE through the firewall; show every flow with its verdict, rule and reason.

    Without CAPTURE it is the shipped one: an office, recorded from real programs on both sides of a
    router. Exit status: 0, or 2 if CAPTURE or the policy cannot be read.
    """
    with ExitStack() as stack:
        examples = files("reference_appliances.firewall") / "examples"
        if capture is None:
            capture = stack.enter_context(as_file(examples / "office.pcap"))
        if policy is None:
            policy = stack.enter_context(as_file(examples / "policy.toml"))
        try:
            ruleset = read_policy(policy)
            config = {"policy": str(policy.absolute()), "log": "all"}
            result = replay_with(Firewall, config, capture, udp=udp, eve=eve)
        except ApplianceError as error:
            raise _Refused(str(error)) from error
    _warn(ruleset)
    for line in table([_FLOW_HEAD, *flow_rows(result.events)], coloured):
        click.echo(line)
    click.echo()
    for line in table([_HITS_HEAD, *hit_rows(ruleset, result.metrics)], coloured, right=(0,)):
        click.echo(line)
    click.echo()
    print_balance(result)
    if udp and result.metrics[f"firewall.hits.{LIMIT}"]:
        click.echo(
            "note: sources went over [limit], as the capture was sent faster than it was recorded; "
            "--memory keeps its time",
            err=True,
        )


def _warn(ruleset: Ruleset) -> None:
    for warning in ruleset.warnings:
        click.echo(f"warning: {warning}", err=True)
