"""`check`: everything that `run` would do before the first packet."""

from __future__ import annotations

import socket
from pathlib import Path

import click

from appliance_sdk.plugin.base import Plugin
from appliance_sdk.server.config import load_config
from appliance_sdk.server.loads import load_jobs, run_loads
from appliance_sdk.wire.geneve import PORT


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.pass_obj
def check(appliance: type[Plugin] | None, config: Path) -> None:
    """Check CONFIG, import what it enables, run every `load()`, and say what would run.

    Exit status: 0 if `run` would start, as far as can be told without opening ports; 2 if not.
    """
    settings = load_config(config)
    enabled = settings.enabled(appliance)
    sinks = settings.sinks(appliance)
    for sink in sinks:
        sink.decoded()
    pipeline = settings.pipeline(enabled)
    loads = run_loads(load_jobs(settings, enabled))
    click.echo(f"{config}: fine")
    click.echo(f"  origins   {', '.join(settings.origins)}")
    click.echo(
        f"  listen    UDP {', '.join(settings.listen.addresses)} port {settings.listen.port}"
    )
    health = settings.health
    if health.enabled:
        click.echo(f"  health    {health.kind.upper()} {health.address}:{health.port}")
    for number, entry in enumerate(enabled, 1):
        sizes = [len(loaded.packed) for loaded in loads if loaded.plugin == entry.name]
        loaded = f", loaded {sum(sizes)} bytes" if sizes else ""
        click.echo(f"  plugin {number}  {entry.name}{loaded}")
    if not enabled:
        click.echo("  no plugin is enabled: everything is forwarded")
    for sink in sinks:
        click.echo(f"  sink      {sink.name}")
    for name, zone in pipeline.zones.items():
        endpoints = [e for e, z in pipeline.endpoints.items() if z is zone]
        count = f"{len(endpoints)} endpoint{'' if len(endpoints) == 1 else 's'}"
        what = count if name != "default" else "every other endpoint"
        click.echo(f"  zone      {name}: {what}")
    if settings.listen.port != PORT:
        click.echo(f"  note: GWLB sends to port {PORT} only", err=True)
    if not _may_use_raw_sockets():
        click.echo(
            "  note: no CAP_NET_RAW here. Real GWLB uses any source port, which takes a raw "
            "socket: run as root, or with AmbientCapabilities=CAP_NET_RAW",
            err=True,
        )


def _may_use_raw_sockets() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW).close()
    except PermissionError:
        return False
    return True
