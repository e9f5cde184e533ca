"""`run`: the appliance itself."""

from __future__ import annotations

from pathlib import Path

import click

from appliance_sdk.plugin.base import Plugin
from appliance_sdk.server.config import load_config
from appliance_sdk.server.launch import run_appliance


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.pass_obj
def run(appliance: type[Plugin] | None, config: Path) -> None:
    """Run what CONFIG describes until a signal ends it.

    SIGTERM or SIGINT drains: health checks fail at once, flows are served on until they are quiet.
    A second one stops at once. SIGHUP has every plugin load its data again.

    \b
    A smallest CONFIG:
      origins = ["10.0.1.0/24"]     # the subnets of the load balancer
      enable = ["login-guard"]      # installed plugins, in the order they are asked
      [health]
      port = 8080
    """
    run_appliance(load_config(config), appliance)
