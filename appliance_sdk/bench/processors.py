"""Processor time: of other processes by their clocks, of cores by /proc/stat."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Used(NamedTuple):
    """Seconds between two moments."""

    process_s: float
    busy_s: float
    """The cores were not idle."""
    softirq_s: float


class Processors:
    """Watches processes and cores from now on."""

    def __init__(self, pids: Sequence[int], cores: Sequence[int]) -> None:
        self._pids = pids
        self._cores = cores
        self._begin = self._read()

    def used(self) -> Used:
        """What was used since the beginning."""
        process, busy, softirq = (
            now - then for now, then in zip(self._read(), self._begin, strict=True)
        )
        return Used(process, busy, softirq)

    def _read(self) -> Used:
        process = sum(process_time(pid) for pid in self._pids)
        tick = os.sysconf("SC_CLK_TCK")
        idle = softirq = 0
        for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
            name, *fields = line.split()
            if name in {f"cpu{core}" for core in self._cores}:
                idle += int(fields[3]) + int(fields[4]) + int(fields[7])  # iowait and steal as well
                softirq += int(fields[6])
        return Used(process, len(self._cores) * time.monotonic() - idle / tick, softirq / tick)


def process_time(pid: int) -> float:
    """Seconds of processor time that a process has used; 0 if it is gone."""
    try:
        return time.clock_gettime(~pid << 3 | 2)  # clock_getcpuclockid(3)
    except OSError:
        return 0.0


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for parent in found:
        try:
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text(encoding="ascii").split())
        except OSError:
            continue
    return found
