"""`plugins`: what is installed, without importing any of it."""

from __future__ import annotations

import json
from pathlib import Path

import click

from appliance_sdk.cli.text import table
from appliance_sdk.plugin.discovery import available_plugins
from appliance_sdk.server.config import load_config


@click.group()
def plugins() -> None:
    """See which plugins are installed."""


@plugins.command("list")
@click.option("--config", type=click.Path(path_type=Path), help="Also say which ones it enables.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def list_(config: Path | None, as_json: bool) -> None:
    """List installed plugins. None is imported: installed is not enabled.

    \b
    Enable one in the configuration:
      enable = ["login-guard"]
    """
    enabled = load_config(config, offline=True).enable if config else ()
    rows = []
    for found in available_plugins():
        row = found._asdict()
        if config:
            row["enabled"] = found.name in enabled
        rows.append(row)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif not rows:
        click.echo("no plugins are installed")
    else:
        head = list(rows[0])
        words = {"True": "yes", "False": "no"}
        cells = [[words.get(str(value), str(value)) for value in r.values()] for r in rows]
        for line in table([head, *cells]):
            click.echo(line)
