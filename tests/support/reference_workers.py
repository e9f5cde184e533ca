"""A reference appliance of several processes, with what the conformance suite has it do.

    python reference_workers.py firewall 4 false 127.20.0.2 8080 127.20.0.0/24 [KEY=JSON]

Name, workers, `listen.raw`, where it is asked, and settings of the engine.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import msgspec

from appliance_sdk.cli.main import command_line
from appliance_sdk.conformance.setup import find_setup
from appliance_sdk.plugin.discovery import find_plugin


def main() -> None:
    name, workers, raw, address, health_port, origins, *given = sys.argv[1:]
    setup = find_setup(find_plugin(name))
    assert setup is not None
    events = Path(os.environ["CONFORMANCE_EVENTS"])
    engine = {key: json.loads(text) for key, text in (one.split("=", 1) for one in given)}
    sections = [
        f'origins = ["{origins}"]\nenable = ["{name}"]\nworkers = {workers}',
        f'[listen]\naddresses = ["{address}"]\nraw = {raw}',
        f'[health]\naddress = "{address}"\nport = {health_port}',
        f'[events]\nfile = "{events}"',
        "[drain]\ndeadline_s = 20\nquiet_s = 1\nsettle_s = 1",
        _table("engine", engine),
        _table(f"plugins.{name}", setup.settings),
    ]
    for zone, about in setup.zones.items():
        told = {key: value for key, value in msgspec.to_builtins(about).items() if value}
        sections.append(_table(f"zones.{zone}", told))
    config = events.parent / "appliance.toml"
    config.write_text("\n".join(sections) + "\n")
    command_line(arguments=["run", str(config)])


def _table(name: str, values: dict[str, object]) -> str:
    # Strings, numbers, truths and lists of them are the same in JSON and TOML.
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    return "\n".join([f"[{name}]", *lines])


if __name__ == "__main__":
    main()
