"""A reference appliance as its users run it, from a configuration file, for the conformance suite.

    python reference_process.py firewall 127.20.0.2 8080 127.20.0.0/24 [raw = false]

The last words are lines of TOML for [listen]. It forwards everything.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from appliance_sdk.cli.main import command_line

PLUGINS = {
    "firewall": 'policy = "{folder}/policy.toml"',
    "ids": 'rules = ["{folder}/none.rules"]',
    "analytics": "",
}


def main() -> None:
    name, address, health_port, origins, *listen = sys.argv[1:]
    events = os.environ["CONFORMANCE_EVENTS"]
    folder = Path(events).parent
    (folder / "policy.toml").write_text(
        'midstream = "allow"\n[[rule]]\nname = "all"\naction = "allow"\n'
    )
    (folder / "none.rules").write_text(
        'alert tcp any any -> any any (msg:"no such thing"; content:"no such thing"; sid:1;)\n'
    )
    config = folder / "appliance.toml"
    config.write_text(
        f'origins = ["{origins}"]\nenable = ["{name}"]\n'
        f'[listen]\naddresses = ["{address}"]\n' + "\n".join(listen) + "\n"
        f'[health]\naddress = "{address}"\nport = {health_port}\n'
        f'[events]\nfile = "{events}"\n'
        "[drain]\ndeadline_s = 20\nquiet_s = 1\nsettle_s = 1\n"
        f"[plugins.{name}]\n{PLUGINS[name].format(folder=folder)}\n"
    )
    command_line(arguments=["run", str(config)])


if __name__ == "__main__":
    main()
