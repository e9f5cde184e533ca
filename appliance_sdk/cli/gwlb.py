"""`gwlb`: the local Gateway Load Balancer, for any appliance in any language."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from appliance_sdk.cli.ending import end_on_signals
from appliance_sdk.errors import ConfigError, HarnessError
from appliance_sdk.harness.fault_text import parse_fault
from appliance_sdk.harness.metrics import DataPoint
from appliance_sdk.harness.session import START_S, Session
from appliance_sdk.harness.topology import Topology, shipped_topology


class _RunByDefault(click.Group):
    """`gwlb TOPOLOGY` is `gwlb run TOPOLOGY`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """click's hook."""
        if args and args[0] not in self.commands:
            args = ["run", *args]
        return super().resolve_command(ctx, args)


@click.group(cls=_RunByDefault)
def gwlb() -> None:
    """Run a local Gateway Load Balancer with the VPC around it: `gwlb TOPOLOGY`.

    TOPOLOGY is a TOML file, or the name of one that comes with the SDK: `simple` (a client, a
    load balancer, a server), `inline-ids` (firewalls, then an IPS, then a web site) or `transit`
    (two VPCs that speak through a third, over a transit gateway, in two zones).
    """


@gwlb.command()
@click.argument("topology")
@click.option(
    "--exec",
    "command",
    default="",
    help="Start this for each target. {address} is where it shall listen for GENEVE (UDP 6081), "
    "{health_port} where it shall answer health checks, {origins} where packets come from.",
)
@click.option(
    "--seconds",
    type=float,
    default=0.0,
    help="Stop so long after the first target is healthy. Default: Ctrl-C.",
)
@click.option(
    "--start-timeout",
    type=float,
    default=START_S,
    show_default=True,
    help="Seconds until a target must be healthy; then it stops. Without --exec and --seconds it "
    "waits.",
)
@click.option("--rate", type=float, default=1.0, help="Rounds of traffic a second.")
@click.option("--factor", type=float, default=1.0, help="Let the clock run so much faster.")
@click.option("--wide-ports", is_flag=True, help="Use every UDP source port, as AWS does.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="NAME:KEY=VALUE,…",
    help="What goes wrong with a target or a host; see above. Repeatable.",
)
@click.option(
    "--capture",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write every packet, at every place that it passes, to this file: pcapng, for Wireshark.",
)
@click.option(
    "--capture-at",
    default="",
    metavar="NAME,…",
    help="Only at these: hosts, targets, load balancers, endpoints, subnets, igw.",
)
@click.option(
    "--metrics",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write CloudWatch's data points to this file at the end, as JSON.",
)
@click.option("--trace", is_flag=True, help="Show the way of every packet, hop by hop.")
@click.option("--quiet", is_flag=True, help="No lines for single requests.")
def run(
    topology: str,
    command: str,
    seconds: float,
    start_timeout: float,
    rate: float,
    factor: float,
    wide_ports: bool,
    faults: tuple[str, ...],
    capture: Path | None,
    capture_at: str,
    metrics: Path | None,
    trace: bool,
    quiet: bool,
) -> None:
    """Send traffic through appliances and say what becomes of it.

    Health checks go to each target; once one answers, hosts on the internet ping those in the
    VPCs and ask their web services, again and again. A packet that real GWLB would not accept is
    explained. Exit 1 if nothing came through.

    \b
      appliance gwlb simple                            # which addresses it wants, and waits
      appliance gwlb simple --exec 'my-appliance --listen {address} --health {health_port}'

    A fault is that of the link to a target or a host: loss, duplicate, reorder, corrupt, truncate
    are rates (0.1 or 10%); delay, jitter are times (20ms); direction=to or from, by default both.
    Of a target itself: kill, hang, deaf (its data path is dead, its health checks are not) and
    slow=TIME. With after=TIME and for=TIME it begins and ends by the harness's clock. The
    topology's seed decides which packets it meets.

    \b
      --fault appliance-1:loss=10%,delay=20ms,jitter=5ms    # a bad link, both ways
      --fault appliance-1:hang,after=10s,for=30s            # does the fleet survive it?
    """
    read = find_topology(topology)
    _warn(read)
    if wide_ports:
        gateways = {
            name: msgspec.structs.replace(gateway, source_ports=(1, 65535))
            for name, gateway in read.gateways.items()
        }
        read = msgspec.structs.replace(read, gateways=gateways)
    read = _with_faults(read, faults, bool(command))
    places = [name.strip() for name in capture_at.split(",") if name.strip()]
    if places and capture is None:
        raise ConfigError("says where, but not to which file", key="--capture-at", hint="--capture")
    if metrics is not None:
        write_metrics([], metrics)  # rather now than after an hour
    end_on_signals()
    with Session(
        read, command, factor=factor, write=click.echo, capture=capture, capture_at=places
    ) as session:
        try:
            session.run(
                seconds=seconds,
                rate=rate,
                trace=trace,
                quiet=quiet,
                start_timeout_s=start_timeout,
            )
        except KeyboardInterrupt:
            click.echo("")
        session.report()
        if metrics is not None:
            points = session.harness.cloudwatch()
            write_metrics(points, metrics)
            click.echo(f"{len(points)} data points are in {metrics}")
        sys.exit(0 if session.came_through else 1)


@gwlb.command()
@click.argument("topology")
@click.option(
    "--svg",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write an SVG instead; - for standard output.",
)
def draw(topology: str, svg: Path | None) -> None:
    """Draw a topology: boxes and arrows in the terminal, or an SVG."""
    from appliance_sdk.harness.draw_svg import draw_svg
    from appliance_sdk.harness.draw_text import draw_text

    read = find_topology(topology)
    _warn(read)
    if svg is None:
        click.echo(draw_text(read), nl=False)
    elif str(svg) == "-":
        click.echo(draw_svg(read), nl=False)
    else:
        try:
            svg.write_text(draw_svg(read), encoding="utf-8")
        except OSError as error:
            raise HarnessError(f"{svg}: {error.strerror}") from None
        click.echo(f"drawn in {svg}")


@gwlb.command()
@click.argument("topology")
def check(topology: str) -> None:
    """Say what will not work in a topology, though AWS would take it.

    Such as an endpoint that packets go past on their way in, a loop, two zones without appliance
    mode. Exit status: 0 if there is nothing to say, 1 if there is, 2 if AWS would refuse it.
    """
    found = find_topology(topology).warnings()
    for finding in found:
        click.echo(f"{topology}: {finding}")
    if found:
        sys.exit(1)
    click.echo(f"{topology}: fine")


def _warn(topology: Topology) -> None:
    for finding in topology.warnings():
        click.echo(f"warning: {finding}", err=True)


def _with_faults(topology: Topology, texts: tuple[str, ...], started: bool) -> Topology:
    """The topology with more faults. Raises ConfigError."""
    targets = [target for gateway in topology.gateways.values() for target in gateway.targets]
    more = []
    for text in texts:
        try:
            fault = parse_fault(text).check(topology.hosts, targets)
        except ConfigError as error:
            where = error.key if error.key.startswith(text) else text
            raise ConfigError(error.message, key=f"--fault {where}", hint=error.hint) from None
        if (fault.kill or fault.hang) and not started:
            message = "can only be done to what was started here"
            raise ConfigError(message, key=f"--fault {text}", hint="give --exec")
        more.append(fault)
    return msgspec.structs.replace(topology, faults=(*topology.faults, *more))


def write_metrics(points: Sequence[DataPoint], path: Path) -> None:
    """A JSON list of data points with CloudWatch's keys. Raises HarnessError."""
    text = json.dumps([point.as_json() for point in points], indent=1)
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise HarnessError(f"{path}: {error.strerror}") from None


def find_topology(text: str) -> Topology:
    """A file, or a topology that comes with the SDK. Raises ConfigError."""
    if os.sep in text or text.endswith(".toml") or Path(text).exists():
        return Topology.read(text)
    try:
        return shipped_topology(text)
    except ConfigError as error:
        hint = error.hint + "; or give a file" if error.hint else "or give a file"
        raise ConfigError(error.message, hint=hint) from None
