"""Two network namespaces joined by a veth pair, which are gone when this process is.

The namespaces have no name: only open descriptors keep them (namespaces(7)), so nothing of them
outlives a crash, a kill or Ctrl-C, and nothing of the host's own network is touched.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from typing import Self

from appliance_sdk.errors import HarnessError
from appliance_sdk.server.orphan import die_with_parent

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)

NODE = "10.200.0.1"
"""Where GWLB sends from. No interface has this address: the kernel there must not answer."""
NODE_MAC = "02:00:00:00:00:aa"
APPLIANCE_MAC = "02:00:00:00:00:02"
NODE_DEVICE, APPLIANCE_DEVICE = "gwlb", "appliance"
MTU_BYTES = 9216
"""EC2's largest MTU is 9,001; an 8,500-byte packet in GENEVE needs 8,568."""


class Namespace:
    """One network namespace, kept by a descriptor."""

    def __init__(self) -> None:
        """Make it. Raises HarnessError if this process may not."""
        here = _own()
        try:
            if _LIBC.unshare(_CLONE_NEWNET):
                number = ctypes.get_errno()
                hint = "it takes root; `appliance bench --list` shows what does not"
                raise HarnessError(f"no network namespace: {os.strerror(number)}; {hint}")
            self.descriptor = _own()
            _join(here)
        finally:
            os.close(here)
        self.path = f"/proc/{os.getpid()}/fd/{self.descriptor}"
        """A name that ip(8) understands."""

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """This thread is inside: a socket made here stays in the namespace."""
        here = _own()
        try:
            _join(self.descriptor)
            yield
        finally:
            _join(here)
            os.close(here)

    def start(
        self, command: Sequence[str], cores: Sequence[int], **settings: object
    ) -> subprocess.Popen[bytes]:
        """A process inside, on these cores, that ends when this one does.

        Ctrl-C does not reach it: whoever started it must end it.
        """

        def enter() -> None:
            die_with_parent()
            _join(self.descriptor)
            os.sched_setaffinity(0, cores)

        return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
            list(command),
            preexec_fn=enter,  # noqa: PLW1509 - there are no threads here
            start_new_session=True,
            **settings,
        )

    def run(self, *command: str) -> None:
        """Run a command inside. Raises HarnessError with what it complains about."""
        with self.entered():
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise HarnessError(f"{' '.join(command)}: {done.stderr.strip()}")

    def write(self, path: str, text: str) -> None:
        """Write to one of the files below /proc/sys/net that belong to the namespace."""
        with self.entered(), open(path, "w", encoding="ascii") as file:
            file.write(text)

    def close(self) -> None:
        """Let go; the kernel removes it when no process is left inside."""
        os.close(self.descriptor)


class Network:
    """A load balancer's side and the appliances' side, each receiving on cores of its own."""

    def __init__(self, gwlb_cores: Sequence[int], appliance_cores: Sequence[int]) -> None:
        if shutil.which("ip") is None:
            raise HarnessError("the program `ip` is missing: install iproute2")
        self.gwlb = Namespace()
        self.appliances = Namespace()
        self.steered = True
        """Whether each side's packets are received on its own cores (RPS)."""
        try:
            self._join()
            for side, device, cores in (
                (self.gwlb, NODE_DEVICE, gwlb_cores),
                (self.appliances, APPLIANCE_DEVICE, appliance_cores),
            ):
                self._steer(side, device, cores)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add_address(self, address: str) -> None:
        """One more address on the appliances' side."""
        self.appliances.run("ip", "address", "add", f"{address}/16", "dev", APPLIANCE_DEVICE)

    def close(self) -> None:
        """Remove everything, once the processes inside have ended."""
        self.gwlb.close()
        self.appliances.close()

    def _join(self) -> None:
        for side in (self.gwlb, self.appliances):
            side.write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")
            side.write("/proc/sys/net/ipv4/conf/all/rp_filter", "0")
            side.run("ip", "link", "set", "lo", "up")
        mtu = ("mtu", str(MTU_BYTES))
        pair = ("ip", "link", "add", NODE_DEVICE, *mtu, "type", "veth", "peer", "name")
        peer = (APPLIANCE_DEVICE, *mtu, "address", APPLIANCE_MAC, "netns", self.appliances.path)
        self.gwlb.run(*pair, *peer)
        self.gwlb.run("ip", "link", "set", NODE_DEVICE, "up")
        self.appliances.run("ip", "link", "set", APPLIANCE_DEVICE, "up")
        self.appliances.run("ip", "route", "add", f"{NODE}/32", "dev", APPLIANCE_DEVICE)
        # Not the MAC address of the device over there: its kernel then lets our replies lie.
        neighbour = ("ip", "neighbour", "add", NODE, "lladdr", NODE_MAC, "nud", "permanent")
        self.appliances.run(*neighbour, "dev", APPLIANCE_DEVICE)

    def _steer(self, side: Namespace, device: str, cores: Sequence[int]) -> None:
        """Receive on these cores (receive packet steering, see scaling.rst of the kernel).

        Queues are only to be seen in a sysfs that was mounted inside: in a mount namespace that
        ends with the command.
        """
        digits = f"{sum(1 << core for core in cores):x}"
        words = -(-len(digits) // 8)  # of 32 bits, with commas between them
        digits = digits.rjust(words * 8, "0")
        mask = ",".join(digits[at * 8 : at * 8 + 8] for at in range(words))
        queue = f"/sys/class/net/{device}/queues/rx-0/rps_cpus"
        script = f"mount -t sysfs none /sys && echo {mask} > {queue}"
        try:
            side.run("unshare", "--mount", "sh", "-c", script)
        except (HarnessError, FileNotFoundError):
            self.steered = False


def _own() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _join(descriptor: int) -> None:
    if _LIBC.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise HarnessError(f"setns: {os.strerror(number)}")
