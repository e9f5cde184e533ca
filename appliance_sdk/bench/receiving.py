"""Receiving on a core of one's choice, by a thread of the kernel's: threaded NAPI."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from appliance_sdk.bench.ebpf import EXIT, MOVE_TO, Instruction, attach_xdp, load_xdp
from appliance_sdk.errors import HarnessError
from appliance_sdk.harness.namespaces import Namespace

_PASS = [Instruction(MOVE_TO, 0, given=2), Instruction(EXIT)]  # XDP_PASS


@contextlib.contextmanager
def received_by_thread(side: Namespace, device: str, cores: Sequence[int]) -> Iterator[None]:
    """Meanwhile a thread on these cores receives what comes to a veth device.

    It is scheduled as any other; packets that it leaves lying are dropped at the device's ring, at
    nobody's cost. A veth device has a ring as network cards have one (NAPI) only while it has an
    XDP program: here one that lets all pass. Raises HarnessError if that cannot be had.
    """
    program = load_xdp(_PASS, fragments=True)
    try:
        with side.entered():
            link = attach_xdp(program, device, native=True)
    finally:
        os.close(program)
    try:
        before = _threads()
        _set_threaded(side, device, 1)
        try:
            threads = _threads() - before
            if not threads:
                raise HarnessError(f"{device}: the kernel's thread that receives is not to be seen")
            for thread in threads:
                os.sched_setaffinity(thread, cores)
            yield
        finally:
            _set_threaded(side, device, 0)
    finally:
        os.close(link)


def _threads() -> set[int]:
    """The kernel's threads of this kind, of all devices."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            if path.read_text(encoding="utf-8", errors="replace").startswith("napi/"):
                found.add(int(path.parent.name))
    return found


def _set_threaded(side: Namespace, device: str, value: int) -> None:
    """Devices are only to be seen in a sysfs that was mounted inside: in a mount namespace that
    ends with the command."""
    script = f"mount -t sysfs none /sys && echo {value} > /sys/class/net/{device}/threaded"
    command = ["unshare", "--mount", "sh", "-c", script]
    try:
        with side.entered():
            subprocess.run(command, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise HarnessError(f"{device}: no thread receives (threaded NAPI): {error}") from error
