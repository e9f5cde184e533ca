"""Grows an engine to many flows in this process, and holds them: memory and pauses, as JSON.

    python -m appliance_sdk.bench.growth FLOWS

No network, no waiting: batches are judged as the socket plane has them judged, with a clock that
goes on by what a batch takes at 40,000 packets a second. The flows are TCP connections with a whole
handshake. Then half of them are kept busy while the others, one after the other, have been silent
for too long, and new ones come.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from pathlib import Path

import msgspec

from appliance_sdk.bench.frames import HANDSHAKE, Frames
from appliance_sdk.bench.load import NODE, Load
from appliance_sdk.engine import FORWARD, Engine, EngineSettings
from appliance_sdk.errors import HarnessError
from appliance_sdk.plugin.manager import Pipeline
from appliance_sdk.server.collector import Collector

BATCH = 64
_PER_S = 40_000
_BATCH_S = BATCH / _PER_S
_REST_S = 1.0
"""Between the last flow's opening and the first one's expiry."""
_HOLD_S = 2.5
"""Of holding, beside half of the time that growing takes: flows expire in steps of a second."""
_NEW_EVERY = 4
"""While holding, every so many packets open a flow."""
_STRIDE = 160
_SIZE = 80  # bytes of a data packet
_LOCAL = b"\x0a\xc8\x01\x01"
_NODE = bytes(map(int, NODE.split(".")))


class Grown(msgspec.Struct, frozen=True):
    """What was measured."""

    flows: int
    bytes_per_flow: float
    """Of resident memory."""
    batches: int
    growing_us: tuple[float, float, float]
    """Processor time of a batch while growing: median, p99.99, longest."""
    holding_us: tuple[float, float, float]
    pause_us: float
    """p99.99 of all batches."""
    expired: int


class Growth:
    """One engine and the datagrams of many connections."""

    def __init__(self, flows: int) -> None:
        self._flows = flows
        self._frames = Frames(Load(flows=flows, size=_SIZE, tcp=True))
        self._others = Frames(Load(flows=flows, size=_SIZE, tcp=True, epoch=1))
        self._growing_s = HANDSHAKE * flows / _PER_S
        idle_s = self._growing_s + _REST_S
        self._holding = int((self._growing_s / 2 + _HOLD_S) * _PER_S)
        self.now = 1000.0
        self.times: list[int] = []
        """Nanoseconds of processor time of each batch."""
        settings = EngineSettings(
            origins=(f"{NODE}/32",),
            max_flows=flows + self._holding // _NEW_EVERY + BATCH,
            tcp_idle_s=idle_s,
            idle_margin_s=0.0,
            half_open_s=min(30.0, idle_s),
        )
        self.engine = Engine(
            Pipeline.build([], {}),
            settings,
            now=self.now,
            emit=lambda event: None,
            log=lambda event, **fields: None,
        )
        self._buffer = bytearray(BATCH * _STRIDE)
        self._batch: list[tuple[int, int, bytes]] = []

    def grow(self) -> None:
        """Open every flow: three packets each, connection by connection."""
        for flow in range(self._flows):
            for turn in range(HANDSHAKE):
                self._add(self._frames, turn * self._flows + flow)
        self._judge()

    def hold(self) -> None:
        """Until a quarter of the flows has expired: packets of every other flow, and new flows."""
        busy = new = 0
        for number in range(self._holding):
            if number % _NEW_EVERY == 0:
                self._add(self._others, new)
                new += 1
            else:
                turn, flow = divmod(busy, self._flows)
                self._add(self._frames, (HANDSHAKE + turn) * self._flows + flow)
                busy += 2
        self._judge()

    def _add(self, frames: Frames, number: int) -> None:
        port, payload = frames.datagram(number)
        at = len(self._batch) * _STRIDE
        self._buffer[at : at + len(payload)] = payload
        self._batch.append((at, at + len(payload), port.to_bytes(2, "big") + _NODE))
        if len(self._batch) == BATCH:
            self._judge()

    def _judge(self) -> None:
        """What the socket plane does with a batch, between two system calls."""
        engine, buffer, now = self.engine, self._buffer, self.now
        refused = 0
        began = time.thread_time_ns()
        for start, end, peer in self._batch:
            refused += engine.receive(buffer, start, end, peer, _LOCAL, now) != FORWARD
        engine.advance(now)
        engine.next_deadline()
        self.times.append(time.thread_time_ns() - began)
        self.now += _BATCH_S
        self._batch.clear()
        if refused:
            raise HarnessError(f"{refused} packets were not forwarded: {dict(engine.drops)}")


def measure(flows: int) -> Grown:
    """Grow and hold."""
    growth = Growth(flows)
    gc.collect()
    gc.freeze()  # as the launcher does before it forks the workers
    Collector(0.0)  # and a worker when it begins
    before = _resident()
    growth.grow()
    size = (_resident() - before) / flows
    if growth.engine.flow_count != flows:
        raise HarnessError(f"{growth.engine.flow_count:,} of {flows:,} flows are there")
    grown = len(growth.times)
    growth.hold()
    return Grown(
        flows=flows,
        bytes_per_flow=size,
        batches=len(growth.times),
        growing_us=_summary(growth.times[:grown]),
        holding_us=_summary(growth.times[grown:]),
        pause_us=_summary(growth.times)[1],
        expired=growth.engine.flows_closed,
    )


def _summary(times: list[int]) -> tuple[float, float, float]:
    ordered = sorted(times)
    most = len(ordered) - 1
    return (
        ordered[most // 2] / 1000,
        ordered[min(int(0.9999 * len(ordered)), most)] / 1000,
        ordered[-1] / 1000,
    )


def _resident() -> int:
    """Bytes of memory that this process has in use, see proc(5)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    print(msgspec.json.encode(measure(int(sys.argv[1]))).decode())
