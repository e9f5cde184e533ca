"""Lets an engine judge packets in this process, nothing else: for counting what that takes.

    python -m appliance_sdk.bench.engine_cost CASE PACKETS [JUDGED]

Prints the microseconds of processor time per packet. Under `valgrind --tool=cachegrind`, two runs
that judge more and fewer of the same PACKETS give the instructions per packet, which no neighbour
disturbs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

from appliance_sdk.bench import plugins
from appliance_sdk.bench.frames import Frames
from appliance_sdk.bench.load import NODE, Load
from appliance_sdk.engine import Engine, EngineSettings
from appliance_sdk.errors import HarnessError
from appliance_sdk.plugin.manager import Enabled, Pipeline
from appliance_sdk.server.collector import Collector

BATCH = 64
_LOCAL = b"\x0a\xc8\x01\x01"
_NODE = bytes(map(int, NODE.split(".")))


class Case(NamedTuple):
    """Which plugins, which packets."""

    enable: tuple[type, ...]
    load: Load
    """Of 64 flows: one batch, again and again; or of none, and each packet begins another one."""
    max_flows: int = 1_000_000
    batch_s: float = 0.001
    """What passes between two batches: if long, the flows of the first have ended by silence."""


CASES = {
    "bypassed": Case((), Load(flows=BATCH)),
    "bypassed, TCP": Case((), Load(flows=BATCH, tcp=True, open_rounds=3)),
    "one handler": Case((plugins.One,), Load(flows=BATCH)),
    "three plugins' handlers": Case((plugins.One, plugins.Two, plugins.Three), Load(flows=BATCH)),
    "stream handler (TCP)": Case((plugins.Stream,), Load(flows=BATCH, tcp=True, open_rounds=3)),
    "new flows (UDP)": Case((plugins.Agree,), Load(flows=0)),
    "new flows (TCP)": Case((plugins.Agree,), Load(flows=0, tcp=True)),
    "new flows, table full": Case((plugins.Agree,), Load(flows=0, tcp=True), max_flows=BATCH),
    "new flows, ending idle": Case((plugins.Agree,), Load(flows=0), batch_s=131.0),
}


class Judging:
    """An engine, and batches that were made before anything is measured."""

    def __init__(self, case: Case, packets: int) -> None:
        enabled = [Enabled(plugin.__name__.lower(), plugin) for plugin in case.enable]
        self._now = 1000.0
        self._batch_s = case.batch_s
        self._engine = Engine(
            Pipeline.build(enabled, {}),
            EngineSettings(origins=(f"{NODE}/32",), max_flows=case.max_flows),
            now=self._now,
            emit=lambda event: None,
            log=lambda event, **fields: None,
        )
        self._engine.start()
        frames = Frames(case.load)
        opening = case.load.open_rounds * case.load.flows
        self._judge(_batches(frames, 0, opening))
        self._rest = _batches(frames, opening, packets)

    def run(self, packets: int) -> float:
        """Judge so many: microseconds of processor time per packet. Raises HarnessError."""
        batches = self._rest[: packets // BATCH]
        count = sum(map(len, batches))
        began = time.process_time()
        self._judge(batches)
        took = time.process_time() - began
        if self._engine.drops:
            raise HarnessError(f"packets were dropped: {dict(self._engine.drops)}")
        return 1e6 * took / count if count else 0.0

    def _judge(self, batches: Sequence[Sequence[tuple[bytes, bytes]]]) -> None:
        receive = self._engine.receive
        for batch in batches:
            now = self._now
            for payload, peer in batch:
                receive(payload, 0, len(payload), peer, _LOCAL, now)
            self._engine.advance(now)
            self._now += self._batch_s


def _batches(frames: Frames, first: int, count: int) -> list[list[tuple[bytes, bytes]]]:
    made: list[list[tuple[bytes, bytes]]] = []
    for number in range(first, first + count):
        port, payload = frames.datagram(number)
        if not made or len(made[-1]) == BATCH:
            made.append([])
        made[-1].append((payload, port.to_bytes(2, "big") + _NODE))
    return made


if __name__ == "__main__":
    Collector(time.monotonic())  # as in a worker
    print(Judging(CASES[sys.argv[1]], int(sys.argv[2])).run(int(sys.argv[-1])))
