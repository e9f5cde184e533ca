"""`appliance analytics`: who has most in record files; records of a capture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from appliance_sdk import ApplianceError
from appliance_sdk.cli.replay import print_balance
from appliance_sdk.cli.shipped import replay_with
from reference_appliances.analytics.analytics import Analytics
from reference_appliances.analytics.flow_records import FlowRecords, FlowRecordsConfig
from reference_appliances.analytics.rankings import DEFAULT, MEASURES, Ranking
from reference_appliances.analytics.reading import Unreadable, read_flows
from reference_appliances.analytics.report import ranking_lines

_REMEMBERED = 100_000
"""Keys of each ranking: some 50 MB."""


class _Refused(click.ClickException):
    """What was given cannot be used."""

    exit_code = 2


@click.group()
def analytics() -> None:
    """The reference analytics: a record for each flow, and who has most."""


@analytics.command("top", short_help="Show who has most in record files.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--by", multiple=True, metavar="FIELD,...", help="What is ranked; repeatable.")
@click.option("--sort", type=click.Choice(MEASURES), default=MEASURES[0], show_default=True)
@click.option("-n", "places", type=click.IntRange(1), default=10, show_default=True)
def top_command(files: Sequence[Path], by: Sequence[str], sort: str, places: int) -> None:
    """Rank the flows in FILES (JSON lines of the flow-records sink) by bytes both ways.

    \b
    appliance analytics top flows*.jsonl
    appliance analytics top --by application,host --sort flows flows.jsonl

    Fields: endpoint, zone, protocol, client_ip, server_ip, server_port, application, host,
    end_reason, verdict. Without --by: endpoint; application; endpoint,client_ip.

    Exit status: 0, or 2 if a file cannot be read or holds no record.
    """
    unreadable = Unreadable()
    flows = 0
    try:
        rankings = [Ranking(fields, _REMEMBERED, sort) for fields in by or DEFAULT]
        for path in files:
            for line in read_flows(path, unreadable):
                flows += 1
                for ranking in rankings:
                    ranking.add(line)
    except (ApplianceError, ValueError) as error:
        raise _Refused(str(error)) from error
    if unreadable.lines:
        click.echo(f"{unreadable.lines:,} lines are no records and were left out", err=True)
    if not flows:
        raise _Refused("no flow is recorded there")
    for ranking in rankings:
        for text in ranking_lines(ranking, places):
            click.echo(text)
        click.echo()
    click.echo(f"{flows:,} flows")


@analytics.command("replay", short_help="Write the records of a capture.")
@click.argument("capture", type=click.Path(path_type=Path))
@click.argument("records", type=click.Path(path_type=Path))
@click.option("--format", "format_", type=click.Choice(["json", "parquet"]), default="json")
def replay_command(capture: Path, records: Path, format_: str) -> None:
    """Send CAPTURE through analytics at its own time, and append its records to RECORDS.

    Exit status: 0, or 2 if the capture cannot be read or the records cannot be written.
    """
    try:
        config = FlowRecordsConfig(path=str(records), format=format_)  # type: ignore[arg-type]
        sink = FlowRecords(config)
        result = replay_with(Analytics, {}, capture, udp=False)
        sink.write(result.events)
        sink.close()
    except OSError as error:
        raise _Refused(f"{records}: cannot be written: {error.strerror}") from None
    except (ApplianceError, ValueError) as error:
        raise _Refused(str(error)) from error
    print_balance(result)
