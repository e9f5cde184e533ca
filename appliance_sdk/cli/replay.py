"""`replay`: what an appliance does with a capture, flow by flow."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from appliance_sdk.cli.text import balance, coloured, table
from appliance_sdk.errors import ConfigError
from appliance_sdk.plugin.base import Plugin
from appliance_sdk.plugin.discovery import find_plugin
from appliance_sdk.plugin.events import Alert
from appliance_sdk.plugin.manager import Enabled
from appliance_sdk.server.config import ApplianceConfig, Log, load_config
from appliance_sdk.server.eve import EveFile, eve_record
from appliance_sdk.server.logs import configure_logs, log_event
from appliance_sdk.server.replaying import ReplayResult, replay_by_udp, replay_in_memory


@click.command()
@click.argument("captures", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--config", type=click.Path(path_type=Path), help="Plugins, zones and settings.")
@click.option(
    "--plugin",
    "plugins",
    multiple=True,
    metavar="NAME",
    help="Name, module:Class or file.py:Class. May be repeated.",
)
@click.option("--udp", is_flag=True, help="As real GENEVE over loopback, not in memory.")
@click.option("--eve", type=click.Path(path_type=Path), help="Append the events to this file.")
@click.option("--json", "as_json", is_flag=True, help="Flows and balance as JSON lines.")
@click.option("--summary", is_flag=True, help="Only the balance of each capture.")
@click.pass_obj
def replay(
    appliance: type[Plugin] | None,
    captures: Sequence[Path],
    config: Path | None,
    plugins: Sequence[str],
    udp: bool,
    eve: Path | None,
    as_json: bool,
    summary: bool,
) -> None:
    """Send CAPTURES (pcap or pcapng) through the appliance and print what became of each flow.

    Packets are taken with their own GENEVE headers, or wrapped on the fly. Every packet that is
    read is forwarded or dropped for a reason; the last lines show the balance. "packets" are those
    to the server and those to the client.

    \b
    appliance replay --plugin ftp_guard.py:FtpGuard ftp.pcap
    python no_telnet.py replay --udp office.pcap
    """
    settings = load_config(config, offline=True) if config else ApplianceConfig()
    configure_logs(Log(format="console", level="warning"))
    enabled = settings.enabled(appliance)
    for name in plugins:
        plugin = find_plugin(name)
        enabled.append(Enabled(getattr(plugin, "name", name), plugin))
    total: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    for capture in captures:
        result = (
            replay_by_udp(capture, settings, enabled)
            if udp
            else replay_in_memory(capture, settings, enabled, log_event)
        )
        if eve is not None:
            append_events(eve, result)
        _print(result, as_json=as_json, summary=summary, several=len(captures) > 1)
        total["packets"] += result.packets
        total["forwarded"] += result.forwarded
        dropped.update(result.dropped)
    if len(captures) > 1 and not as_json:
        text = balance(total["packets"], total["forwarded"], dropped)
        click.echo(f"{len(captures)} captures: {text}")


def append_events(path: Path, result: ReplayResult) -> None:
    """Append a replay's events to an EVE file. Raises ConfigError if it cannot be written."""
    try:
        EveFile(str(path)).write(result.events)
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", path=str(path)) from error


def _print(result: ReplayResult, *, as_json: bool, summary: bool, several: bool) -> None:
    if as_json:
        for event in result.flows:
            click.echo(json.dumps(eve_record(event), default=str))
        line = {
            "capture": result.capture,
            "packets": result.packets,
            "forwarded": result.forwarded,
            "dropped": dict(result.dropped),
            "edited": result.edited,
            "injected": result.injected,
            "flows_opened": result.flows_opened,
            "flows_closed": result.flows_closed,
        }
        click.echo(json.dumps(line))
        return
    if several:
        click.echo(f"== {result.capture}")
    if not summary:
        for line_ in flow_lines(result):
            click.echo(line_)
        click.echo()
    print_balance(result)


def flow_lines(result: ReplayResult) -> list[str]:
    """The flow table: verdict, ends, rule, packets each way, reason."""
    rows = [("verdict", "flow", "rule", "packets", "reason")]
    for event in result.flows:
        packets = f"{event.packets_to_server}/{event.packets_to_client}"
        rows.append((event.verdict, str(event.flow), event.rule, packets, event.reason))
    return table(rows, coloured)


def print_balance(result: ReplayResult) -> None:
    """What was counted, alerts and trouble included."""
    click.echo(balance(result.packets, result.forwarded, result.dropped))
    alerts = sum(isinstance(event, Alert) for event in result.events)
    counts = {
        "flows": result.flows_opened,
        "edited": result.edited,
        "made by the appliance": result.injected,
        "alerts": alerts,
    }
    click.echo(", ".join(f"{count:,} {name}" for name, count in counts.items()))
    if result.over_udp:
        how = "a raw socket" if result.raw_socket else "one bound socket per source port"
        click.echo(f"over real UDP GENEVE on loopback, answered through {how}")
    for plugin, count in result.plugin_errors.items():
        click.echo(f"plugin {plugin} failed {count:,} times", err=True)
    if result.damage:
        click.echo(f"the capture ends early: {result.damage}", err=True)
