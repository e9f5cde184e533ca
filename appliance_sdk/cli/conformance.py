"""`conformance`: proves any appliance right against a local Gateway Load Balancer."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from appliance_sdk.cli.conformance_run import choose_cases, find_case, run
from appliance_sdk.cli.text import table
from appliance_sdk.conformance.features import Features, feature_texts
from appliance_sdk.conformance.outcome import Outcome
from appliance_sdk.conformance.policy_files import FOLDER, POLICY, RULES, TEXT
from appliance_sdk.conformance.report import CaseReport, read_report
from appliance_sdk.conformance.vectors import INDEX, write_vectors


@click.group()
def conformance() -> None:
    """Prove an appliance right, in any language, case by case: start with `conformance list`.

    \b
      appliance conformance run 127.0.0.1                           # one that runs already
      appliance conformance run --exec './mine --listen {address}'  # one that is started here
      appliance conformance run my-plugin                           # an installed plugin
      appliance conformance policy                                  # what firewalls enforce
    """


conformance.add_command(run)


@conformance.command("list")
@click.option("--profile", "profiles", default="", help="Only these, with commas.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_command(profiles: str, as_json: bool) -> None:
    """List every case: id, level, profile, what it needs, what it requires."""
    chosen = choose_cases(profiles, ())
    if as_json:
        fields = [{k: v for k, v in case._asdict().items() if k != "ask"} for case in chosen]
        click.echo(msgspec.json.format(msgspec.json.encode(fields), indent=2))
        return
    rows = [("case", "level", "profile", "needs", "requirement")]
    rows += [(c.id, c.level, c.profile, " ".join(c.needs), c.requirement) for c in chosen]
    for line in table(rows):
        click.echo(line)


@conformance.command()
@click.argument("id")
def explain(id: str) -> None:
    """Say what the case ID requires, why, and where that is written."""
    case = find_case(id)
    texts = feature_texts()
    click.echo(f"{case.id}  {case.level}  profile {case.profile}\n")
    click.echo(f"required  {case.requirement}")
    click.echo(f"source    {case.reference}")
    for name in case.needs:
        click.echo(f"needs     {name}: {texts.get(name, 'the suite must be able to do that')}")
    if case.explanation:
        click.echo(f"\n{case.explanation}")
    click.echo(f"\nalone     appliance conformance run APPLIANCE --case {case.id}")


@conformance.command()
def features() -> None:
    """List what an appliance can declare, as a file for `run --features`."""
    click.echo("# What the appliance can do; these are the defaults.")
    for name, text in feature_texts().items():
        default = str(getattr(Features(), name)).lower()
        click.echo(f"\n# {text}\n{name} = {default}")


@conformance.command()
@click.option("--json", "show", flag_value="json", help="For programs, an IDS's signatures too.")
@click.option("--rules", "show", flag_value="rules", help="What an IDS looks for, for Suricata.")
@click.option("--path", "show", flag_value="path", help="The folder with all three files.")
def policy(show: str | None) -> None:
    """Show what a firewall enforces, and an IDS looks for, in the profiles of these names.

    A command that `run --exec` starts finds policy.json by CONFORMANCE_POLICY in its environment,
    and the other files beside it.
    """
    if show == "path":
        click.echo(FOLDER)
        return
    path = {"json": POLICY, "rules": FOLDER / RULES}.get(show or "", FOLDER / TEXT)
    click.echo(path.read_text(encoding="utf-8"), nl=False)


@conformance.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="The folder to write to.",
)
def vectors(out: Path) -> None:
    """Write the cases as JSON: what is sent, what must come of it. For unit tests in any language.

    docs/conformance-vectors.md says how to read them.
    """
    files = write_vectors(out)
    topics = [name for name in files if name != INDEX]
    click.echo(f"{len(topics)} topics and {INDEX} are in {out}")


@conformance.command()
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
def diff(old: Path, new: Path) -> None:
    """Compare two report.json: what got worse, what got better. Exit 1 if something got worse."""
    before = {case.id: case for case in read_report(old).cases}
    after = {case.id: case for case in read_report(new).cases}
    worse = 0
    for id in [*before, *(id for id in after if id not in before)]:
        line, is_worse = _change(before.get(id), after.get(id))
        worse += is_worse
        if line:
            click.echo(f"{line}  {id}")
    click.echo(f"{worse} got worse" if worse else "nothing got worse")
    sys.exit(1 if worse else 0)


_RANK = {
    Outcome.PASS: 0,
    Outcome.INFO: 0,
    Outcome.UNSUPPORTED: 1,
    Outcome.NON_STRICT: 1,
    Outcome.ERROR: 2,
    Outcome.FAIL: 3,
}


def _change(old: CaseReport | None, new: CaseReport | None) -> tuple[str, bool]:
    """A line on one case, "" if nothing changed, and whether it got worse."""
    if old is None or new is None:
        there = new or old
        assert there is not None
        return f"{'new' if old is None else 'gone':<7}{there.outcome}", False
    if old.outcome == new.outcome:
        return "", False
    worse = _RANK[new.outcome] > _RANK[old.outcome]
    return f"{'worse' if worse else 'better':<7}{old.outcome} -> {new.outcome}", worse
