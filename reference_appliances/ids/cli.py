"""`appliance ids`: check rules, and try them on recorded traffic."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from appliance_sdk import Alert, ApplianceError
from appliance_sdk.cli.replay import print_balance
from appliance_sdk.cli.shipped import ReplayResult, replay_with
from appliance_sdk.cli.text import coloured, table
from reference_appliances.ids.classification import BUILT_IN, read_classes
from reference_appliances.ids.coverage import coverage, rows
from reference_appliances.ids.events import RulesLoaded
from reference_appliances.ids.groups import Groups
from reference_appliances.ids.ids import Ids
from reference_appliances.ids.problems import SHOWN
from reference_appliances.ids.profile import read_profile
from reference_appliances.ids.rule_files import read_rules
from reference_appliances.ids.settings import VARIABLES


class _Refused(click.ClickException):
    """What was given cannot be used."""

    exit_code = 2


@click.group()
def ids() -> None:
    """The reference IDS/IPS: check Suricata rules, try them on captures."""


@ids.command("replay", short_help="Try rules on a capture; alerts go to an EVE file.")
@click.option("--pcap", required=True, type=click.Path(path_type=Path), help="pcap or pcapng.")
@click.option("--rules", required=True, multiple=True, help="Rule file or pattern; repeatable.")
@click.option("--eve", type=click.Path(path_type=Path), help="Append the events to this file.")
@click.option("--ips", is_flag=True, help="Let drop and reject do what they say.")
@click.option("--skip-unsupported", is_flag=True, help="Leave out rules that cannot be used.")
@click.option("--profile", type=click.Path(path_type=Path), help="Settings as JSON, for tests.")
def replay_command(
    pcap: Path,
    rules: Sequence[str],
    eve: Path | None,
    ips: bool,
    skip_unsupported: bool,
    profile: Path | None,
) -> None:
    """Send a capture through the IDS at its own time, and show which rules matched.

    A rule that cannot be used is an error, unless --skip-unsupported is given. Exit status: 0, or 2
    if the capture, a rule file or a rule cannot be used.
    """
    try:
        config: dict[str, Any] = read_profile(profile) if profile is not None else {}
        config["rules"] = list(rules)
        if ips:
            config["mode"] = "ips"
        if skip_unsupported:
            config["skip_unsupported"] = True
        if eve is not None:
            _touch(eve)
        result = replay_with(Ids, config, pcap, udp=False, eve=eve)
    except ApplianceError as error:
        raise _Refused(str(error)) from error
    _show(result)


@ids.command("check", short_help="Say which rules can be used, and what the others need.")
@click.argument("rules", nargs=-1, required=True, metavar="RULES...")
@click.option("--classification", type=click.Path(path_type=Path), help="classification.config")
@click.option("--all", "all_", is_flag=True, help="Show each rule that cannot be used.")
def check_command(rules: Sequence[str], classification: Path | None, all_: bool) -> None:
    """Read RULES (files, .gz too, or patterns) and count what cannot be used, by keyword.

    Exit status: 0 if every rule can be used, 1 if not, 2 if a file cannot be read.
    """
    try:
        classes = read_classes(classification) if classification is not None else BUILT_IN
        reading = read_rules(rules, Groups(VARIABLES), classes)
    except ApplianceError as error:
        raise _Refused(str(error)) from error
    found = coverage(reading)
    click.echo(f"{found.usable:,} of {found.total:,} rules can be used ({found.share})")
    if found.unsupported:
        click.echo()
        for line in table(rows(found), right=(0, 1)):
            click.echo(line)
    problems = reading.problems if all_ else found.mistakes
    if problems:
        click.echo()
    for problem in problems if all_ else problems[:SHOWN]:
        click.echo(str(problem))
    if not all_ and len(problems) > SHOWN:
        click.echo(f"and {len(problems) - SHOWN:,} more: --all shows them")
    sys.exit(1 if reading.problems else 0)


def _touch(path: Path) -> None:
    """An event file is there even if nothing happens."""
    try:
        path.touch()
    except OSError as error:
        raise _Refused(f"{path}: cannot be written: {error.strerror}") from None


def _show(result: ReplayResult) -> None:
    for event in result.events:
        if isinstance(event, RulesLoaded) and event.skipped:
            click.echo(f"{event.skipped:,} rules are left out:", err=True)
            for problem in event.problems:
                click.echo(f"  {problem}", err=True)
            if event.skipped > len(event.problems):
                click.echo(f"  and {event.skipped - len(event.problems):,} more", err=True)
    alerts = Counter(
        (event.action, f"{event.gid}:{event.rule}:{event.rev}", event.message)
        for event in result.events
        if isinstance(event, Alert)
    )
    if alerts:
        body = [(f"{n:,}", *alert) for alert, n in alerts.most_common()]
        for line in table([("alerts", "action", "rule", "message"), *body], coloured, right=(0,)):
            click.echo(line)
        click.echo()
    print_balance(result)
