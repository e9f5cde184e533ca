"""`bench`: how fast it is here, against what it has to be."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from appliance_sdk.cli.ending import end_on_signals
from appliance_sdk.cli.text import table
from appliance_sdk.errors import ConfigError, HarnessError
from appliance_sdk.plugin.config import near_miss

if TYPE_CHECKING:
    from appliance_sdk.bench.report import Report


@click.command()
@click.argument("scenarios", nargs=-1, metavar="[SCENARIO]...")
@click.option("--list", "listed", is_flag=True, help="Show the scenarios and measure nothing.")
@click.option("--quick", is_flag=True, help="Rough figures in two minutes instead of fifteen.")
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the figures to a file as well; - for standard output.",
)
@click.option(
    "--svg",
    "svg_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw the rates into a file.",
)
@click.option(
    "--page",
    "page_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the page docs/performance.md.",
)
@click.option(
    "--generator",
    type=click.Choice(["c", "python"]),
    help="Which one sends and checks. Default: C if there is a compiler.",
)
def bench(
    scenarios: Sequence[str],
    listed: bool,
    quick: bool,
    json_path: Path | None,
    svg_path: Path | None,
    page_path: Path | None,
    generator: str | None,
) -> None:
    """Measure this machine against the SDK's goals; exit 1 if one is not reached.

    Without SCENARIO all are run. Those of the data path need root: they send GENEVE to appliances
    in network namespaces, which are made for it and gone afterwards, and check every reply. Loops
    in Python and in C that do nothing but answer are measured beside them; what counts are the
    ratios to these. A machine with other work takes longer, and its figures say little.

    \b
      sudo .venv/bin/appliance bench --quick
      appliance bench engine growth harness      # these need no privileges
    """
    from appliance_sdk.bench.chart import draw_chart
    from appliance_sdk.bench.lab import FULL, QUICK, Lab
    from appliance_sdk.bench.page import write_page
    from appliance_sdk.bench.report import run_scenarios
    from appliance_sdk.bench.scenarios import SCENARIOS

    if listed:
        rows = [(one.name, "root" if one.needs_root else "", one.measures) for one in SCENARIOS]
        for line in table([("scenario", "needs", "measures"), *rows]):
            click.echo(line)
        return
    known = {scenario.name: scenario for scenario in SCENARIOS}
    for name in scenarios:
        if name not in known:
            raise ConfigError(f"no scenario {name!r}", hint=near_miss(name, list(known)))
    end_on_signals()
    chosen = [known[name] for name in dict.fromkeys(scenarios or known)]
    with Lab(
        QUICK if quick else FULL,
        compiled=None if generator is None else generator == "c",
        say=_say,
    ) as lab:
        report = run_scenarios(lab, chosen)
    _say("")
    if str(json_path) != "-":
        _show(report)
    chart = draw_chart(report.results)
    picture = svg_path.name if svg_path is not None and chart else ""
    for path, text in (
        (json_path, report.as_json()),
        (svg_path, chart),
        (page_path, write_page(report, picture)),
    ):
        if path is not None and text:
            _write(path, text)
        elif path is not None:
            click.echo(f"{path}: not written, none of these scenarios has rates to draw", err=True)
    if not report.ok:
        sys.exit(1)


def _show(report: Report) -> None:
    """The conditions, a table for each scenario, and what became of the targets."""
    from appliance_sdk.bench.cells import tables, target_rows

    for name, value in report.conditions.items():
        click.echo(f"{name}: {value}")
    for result in report.results:
        click.echo(f"\n{result.title}")
        for rows in tables(result):
            for line in table(rows, right=range(1, len(rows[0]) - bool(rows[0][-1] == ""))):
                click.echo(line)
            click.echo()
        for note in result.notes:
            click.echo(f"  {note}")
    rows_ = target_rows(report.results)
    if len(rows_) > 1:
        click.echo()
        for line in table(rows_, right=(1, 2, 3)):
            click.echo(line)


def _say(text: str) -> None:
    """What is going on, on one line of the terminal that is written again and again."""
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{text}", nl=False, err=True)


def _write(path: Path, text: str) -> None:
    if str(path) == "-":
        click.echo(text, nl=False)
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise HarnessError(f"{path}: {error.strerror}") from None
