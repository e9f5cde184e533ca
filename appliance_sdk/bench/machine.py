"""What is measured on: figures mean nothing without it. And who runs on which core."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import NamedTuple

from appliance_sdk.version import __version__


class Cores(NamedTuple):
    """Cores for the load balancer and for the appliances: the same if there is only one."""

    gwlb: tuple[int, ...]
    appliances: tuple[int, ...]

    @property
    def shared(self) -> bool:
        """Both have to share."""
        return bool(set(self.gwlb) & set(self.appliances))

    def of(self, workers: int) -> tuple[int, ...]:
        """The cores of an appliance with so many workers: one each, as far as there are some."""
        return self.appliances[:workers]


def share_cores() -> Cores:
    """The first core that this process may use for the load balancer, the others for appliances."""
    usable = sorted(os.sched_getaffinity(0))
    return Cores(tuple(usable[:1]), tuple(usable[1:] or usable))


def describe_machine() -> dict[str, str]:
    """Processor, memory, kernel, Python and version of the SDK."""
    usable = len(os.sched_getaffinity(0))
    return {
        "processor": _first("/proc/cpuinfo", "model name") or platform.machine(),
        "cores": str(usable),
        "hypervisor": _hypervisor(),
        "memory": _memory(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "appliance-sdk": __version__,
    }


def _hypervisor() -> str:
    try:
        virtual = "hypervisor" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "unknown"
    return "virtual machine" if virtual else "none"


def _memory() -> str:
    words = _first("/proc/meminfo", "MemTotal").split()
    return f"{int(words[0]) / 2**20:.0f} GiB" if words else "unknown"


def _first(path: str, name: str) -> str:
    """The value of the first line that begins with a name."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
