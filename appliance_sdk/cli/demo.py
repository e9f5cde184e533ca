"""`demo`: the whole picture in half a minute."""

from __future__ import annotations

import sys
import time

import click

from appliance_sdk.cli.ending import end_on_signals
from appliance_sdk.errors import ApplianceError


@click.command()
@click.option("--plain", is_flag=True, help="Lines of text instead of a live picture; for logs.")
def demo(plain: bool) -> None:
    """See a fleet of appliances behind a local Gateway Load Balancer, in half a minute.

    Two firewalls and an IPS, each a process of its own, real GENEVE over UDP on loopback between
    them and a local GWLB; no root. A request is walked hop by hop, a connection refused, an attack
    stopped in mid-stream, a firewall killed, one added, one drained. Exit 1 if anything of it did
    not happen.
    """
    from appliance_sdk.demo.play import play_demo

    end_on_signals()
    if not plain and not sys.stdout.isatty():
        plain = True
    began = time.monotonic()
    try:
        checks = play_demo(plain=plain, write=click.echo)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        hint = "pip install 'appliance-sdk[cli]', or use --plain"
        raise ApplianceError(f"the live picture needs rich: {hint}") from None
    failed = [check for check in checks if not check.happened]
    took = time.monotonic() - began
    said = f"{len(failed)} of {len(checks)} did NOT happen" if failed else "all of it happened"
    click.echo(f"\n{len(checks)} claims, {said}, in {took:.0f} s")
    sys.exit(1 if failed else 0)
