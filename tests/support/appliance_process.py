"""An appliance without plugins as a process of its own: forwards everything, for tests.

    python appliance_process.py --address 127.20.0.2 --replies raw

Prints "ready" when it listens. Ends when its standard input does, and prints its counters as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time

from appliance_sdk.dataplane.addresses import open_listeners
from appliance_sdk.dataplane.sockets import SocketPlane
from appliance_sdk.engine import Engine, EngineSettings
from appliance_sdk.plugin.manager import Pipeline


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", action="append", required=True)
    parser.add_argument("--port", type=int, default=6081)
    parser.add_argument("--replies", choices=("raw", "ports", "any"), default="any")
    parser.add_argument("--reply-ports", type=int)
    options = parser.parse_args()
    engine = Engine(
        Pipeline.build([], {}),
        EngineSettings(origins=("127.0.0.0/8",)),
        now=time.monotonic(),
        emit=lambda event: None,
        log=lambda event, **fields: None,
    )
    engine.start()
    raw = {"raw": True, "ports": False, "any": None}[options.replies]
    listeners = open_listeners(options.address, options.port)
    plane = SocketPlane(engine, listeners, raw=raw, reply_ports=options.reply_ports)
    print("ready", flush=True)
    stdin = sys.stdin.fileno()
    while not (plane.poll(1.0, (stdin,)) == 0 and plane.ready and not os.read(stdin, 64)):
        pass
    engine.close(time.monotonic())
    plane.close()
    counters = {
        "raw": plane.raw,
        "received": plane.received,
        "sent": plane.sent,
        "truncated": plane.truncated,
        "kernel_drops": plane.kernel_drops,
        "unbindable_ports": plane.unbindable_ports,
        "send_errors": plane.send_errors,
        "drops": engine.drops,
        "flows": engine.flows_opened,
    }
    print(json.dumps(counters))


if __name__ == "__main__":
    main()
