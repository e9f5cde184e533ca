"""`conformance run`: asks one appliance every case, and says what came of it."""

from __future__ import annotations

import contextlib
import ipaddress
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from appliance_sdk.cli.ending import end_on_signals
from appliance_sdk.conformance.case import Case, Profile, all_cases
from appliance_sdk.conformance.detect import detect_features
from appliance_sdk.conformance.doors import Door
from appliance_sdk.conformance.expected import expect_failures, read_expected, write_expected
from appliance_sdk.conformance.features import Features, read_features
from appliance_sdk.conformance.openers import open_door
from appliance_sdk.conformance.outcome import EXIT_CODES, Result
from appliance_sdk.conformance.report import Implementation, make_report
from appliance_sdk.conformance.report_files import prepare, write_files
from appliance_sdk.conformance.report_text import report_lines, result_line
from appliance_sdk.conformance.rig import START_S
from appliance_sdk.conformance.runner import run_cases
from appliance_sdk.conformance.setup import Setup, find_setup, read_setup
from appliance_sdk.errors import ConfigError, HarnessError
from appliance_sdk.harness import InProcess, Running, Subprocess
from appliance_sdk.plugin.base import Plugin
from appliance_sdk.plugin.config import near_miss
from appliance_sdk.plugin.discovery import find_plugin

_UNREACHABLE = 3


@click.command()
@click.argument("appliance", required=False)
@click.argument("settings", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--exec",
    "command",
    default="",
    help="Start this, in any language. {address} is where it shall listen for GENEVE (UDP 6081, "
    "{port}), {health_port} where it shall answer health checks, {origins} where packets come "
    "from, {device} its network device, {name} its name. Its "
    "environment has CONFORMANCE_POLICY and CONFORMANCE_EVENTS.",
)
@click.option("--udp", is_flag=True, help="A plugin: as a process of its own behind real UDP.")
@click.option(
    "--netns",
    is_flag=True,
    help="What is started runs in a network namespace of its own, with a device ({device}) and a "
    "route to the load balancer: for appliances that read a device or need one. Needs root.",
)
@click.option(
    "--health-port",
    default=8080,
    show_default=True,
    help="Where it answers health checks, also {health_port}; 0: nowhere.",
)
@click.option("--health-path", default="/", show_default=True, help="What HTTP checks ask for.")
@click.option(
    "--events", default="", help="Of one that runs already: the file that it appends EVE JSON to."
)
@click.option(
    "--setup",
    "setup_path",
    type=click.Path(path_type=Path),
    help="Of a plugin: settings, features and profiles. By default conformance.toml beside it.",
)
@click.option(
    "--profile",
    "profiles",
    default="",
    help="Which cases, with commas: " + ", ".join(Profile) + "; or all. By default those of the "
    "plugin's setup, else transport.",
)
@click.option("--case", "ids", multiple=True, help="Only this case, whatever it needs. Repeatable.")
@click.option(
    "--features",
    "features_from",
    default="",
    help="A TOML file that says what it can do (see `conformance features`), or auto: try it.",
)
@click.option("--feature", "declared", multiple=True, help="One feature: reject, or ipv6=false.")
@click.option("--expected", type=click.Path(path_type=Path), help="Known failures, with reasons.")
@click.option(
    "--update-expected",
    is_flag=True,
    help="Write to --expected what fails now, and count it as known.",
)
@click.option("--strict", is_flag=True, help="A SHOULD counts as a MUST.")
@click.option("--seed", default="0", show_default=True, help="Other addresses, ports and cookies.")
@click.option("--start-timeout", default=START_S, show_default=True, help="Seconds to come up.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write report.json, junit.xml and a capture per failed case to this folder.",
)
@click.option("--implementation", multiple=True, help="For the report: version=1.2, project=…")
@click.option("-v", "--verbose", is_flag=True, help="A line for each case.")
@click.pass_obj
def run(
    own: type[Plugin] | None,
    appliance: str | None,
    settings: Sequence[str],
    command: str,
    udp: bool,
    netns: bool,
    health_port: int,
    health_path: str,
    events: str,
    setup_path: Path | None,
    profiles: str,
    ids: Sequence[str],
    features_from: str,
    declared: Sequence[str],
    expected: Path | None,
    update_expected: bool,
    strict: bool,
    seed: str,
    start_timeout: float,
    out: Path | None,
    implementation: Sequence[str],
    verbose: bool,
) -> None:
    """Ask an appliance every case and say whether it is conformant.

    APPLIANCE is an IPv4 address where one runs, or a plugin (an installed name, module:Class or
    file.py:Class) that is asked in this process; KEY=VALUE are the plugin's settings. Or give a
    command with --exec. It must forward everything for the profiles transport, health and flow;
    for firewall and ids see `appliance conformance policy`.

    Exit status: 0 conformant, 1 not, 2 a mistake in what was typed, 3 it could not be asked.
    """
    plugin, given = _plugin(own, appliance, settings, command)
    setup = _setup(plugin, setup_path)
    own_profiles = tuple(Profile) if profiles else (Profile.TRANSPORT,)
    cases = choose_cases(profiles, ids, setup.profiles if setup else own_profiles)
    known = read_expected(expected) if expected and not _new(expected, update_expected) else {}
    if update_expected and expected is None:
        raise ConfigError("--update-expected needs --expected FILE")
    base = setup.features if setup else Features()
    if features_from not in ("", "auto"):
        base = read_features(Path(features_from))
    base = _declare(base, declared)
    who = _implementation(implementation)
    if out is not None:
        prepare(out)
    tested: InProcess | Subprocess | Running
    if plugin is not None:
        tested = _instance(plugin, setup, given)
    elif command:
        tested = _command(command, health_port, health_path)
    else:
        tested = Running(appliance or "", health_port, health_path, events)
    if netns and isinstance(tested, Running):
        hint = "give a plugin, or --exec 'COMMAND'"
        raise ConfigError("--netns is for what the suite starts, not for an address", hint=hint)
    end_on_signals()
    try:
        with contextlib.closing(
            open_door(tested, "udp" if udp else "", netns=netns, start_s=start_timeout)
        ) as door:
            results, found = _ask(
                door, cases, base, features_from == "auto", bool(ids), seed, known, verbose
            )
    except HarnessError as error:
        click.echo(f"ERROR  {error}", err=True)
        sys.exit(_UNREACHABLE)
    if update_expected and expected is not None:
        results = expect_failures(results, known)
        write_expected(expected, results)
    report = make_report(
        results, found, door.description, seed=seed, strict=strict, implementation=who
    )
    for line in report_lines(report, results, str(out) if out else ""):
        click.echo(line)
    if out is not None:
        write_files(out, report, results)
    sys.exit(EXIT_CODES[report.verdict])


def _ask(
    door: Door,
    cases: Sequence[Case],
    base: Features,
    auto: bool,
    alone: bool,
    seed: str,
    known: dict[str, str],
    verbose: bool,
) -> tuple[list[Result], Features]:
    found = base
    if auto:
        found, findings = detect_features(door, base)
        click.echo("features, as tried:")
        for finding in findings:
            click.echo(f"  {finding.name} = {str(finding.there).lower():<5}  # {finding.why}")
    if alone:
        every = {name: True for case in cases for name in case.needs}
        every = {name: True for name in every if name in Features.__struct_fields__}
        found = msgspec.structs.replace(found, **every)
    done = 0
    terminal = sys.stderr.isatty()

    def progress(result: Result) -> None:
        nonlocal done
        done += 1
        if verbose:
            click.echo(result_line(result))
        elif terminal:
            click.echo(f"\r\x1b[K{done}/{len(cases)}  {result.case.id}", err=True, nl=False)

    results = run_cases(cases, door, found, seed=seed, expected=known, progress=progress)
    if terminal and not verbose:
        click.echo("\r\x1b[K", err=True, nl=False)
    return results, found


def _plugin(
    own: type[Plugin] | None, appliance: str | None, settings: Sequence[str], command: str
) -> tuple[type[Plugin] | None, Sequence[str]]:
    """The plugin that is to be asked, if it is one, and its settings. Raises ConfigError."""
    if command:
        if appliance or settings:
            raise ConfigError("give an APPLIANCE or --exec, not both")
        return None, ()
    if own is not None and (not appliance or "=" in appliance):
        return own, (appliance, *settings) if appliance else settings
    if not appliance:
        raise ConfigError("which appliance?", hint="an address, a plugin, or --exec 'COMMAND'")
    try:
        ipaddress.IPv4Address(appliance)
    except ValueError:
        return find_plugin(appliance), settings
    if settings:
        raise ConfigError("settings are for plugins; an address has none")
    return None, ()


def _setup(plugin: type[Plugin] | None, path: Path | None) -> Setup | None:
    """How the plugin is to be started, if that is said; from which file is shown."""
    if path is not None and plugin is None:
        raise ConfigError("--setup is for plugins; see --features for others")
    setup = read_setup(path) if path is not None else find_setup(plugin) if plugin else None
    if setup is not None:
        click.echo(f"settings and features: {setup.path}")
    return setup


def _instance(plugin: type[Plugin], setup: Setup | None, texts: Sequence[str]) -> InProcess:
    settings = _settings(texts)
    return setup.instance(plugin, **settings) if setup else InProcess(plugin, **settings)


def _command(command: str, health_port: int, health_path: str) -> Subprocess:
    try:
        return Subprocess(command, health_port=health_port, health_path=health_path)
    except HarnessError as error:
        raise ConfigError(str(error), key="--exec") from None


def _settings(texts: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE, a value as in TOML if it is one, else text. Raises ConfigError."""
    settings = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            raise ConfigError(f"{text!r} is no KEY=VALUE")
        try:
            settings[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            settings[key] = value
    return settings


def choose_cases(
    profiles: str, ids: Sequence[str], own: Sequence[Profile] = tuple(Profile)
) -> list[Case]:
    """The cases of these profiles, or with these ids. `own`: what "all" or nothing means."""
    if ids:
        return [find_case(id) for id in ids]
    names = [name.strip() for name in profiles.split(",") if name.strip()]
    if not names or names == ["all"]:
        names = list(own)
    for name in names:
        if name not in list(Profile):
            known = ", ".join(Profile)
            hint = near_miss(name, list(Profile)) or f"profiles are {known}; or all"
            raise ConfigError(f"no profile {name!r}", hint=hint)
    return [case for case in all_cases().values() if case.profile in names]


def find_case(id: str) -> Case:
    cases = all_cases()
    if id not in cases:
        hint = near_miss(id, list(cases)) or "`appliance conformance list` shows them all"
        raise ConfigError(f"no case {id!r}", hint=hint)
    return cases[id]


def _declare(base: Features, declared: Sequence[str]) -> Features:
    changes = {}
    for text in declared:
        name, _, value = text.partition("=")
        if name not in Features.__struct_fields__:
            hint = near_miss(name, list(Features.__struct_fields__))
            raise ConfigError(
                f"no feature {name!r}", hint=hint or "`appliance conformance features` lists them"
            )
        if value not in ("", "true", "false"):
            raise ConfigError(f"feature {name}: {value!r} is neither true nor false")
        changes[name] = value != "false"
    return msgspec.structs.replace(base, **changes)


def _implementation(texts: Sequence[str]) -> Implementation:
    fields = dict(text.partition("=")[::2] for text in texts)
    for name in fields:
        if name not in Implementation.__struct_fields__:
            known = ", ".join(Implementation.__struct_fields__)
            raise ConfigError(f"--implementation {name}: no such field", hint=f"known: {known}")
    return Implementation(**fields)


def _new(path: Path, update: bool) -> bool:
    """Whether a file of known failures is about to be made."""
    return update and not path.exists()
