"""Two network namespaces joined by a veth pair: a load balancer's side and the appliances' side."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Sequence
from typing import IO, Self

from appliance_sdk.bench.load import APPLIANCE_MAC, NODE, NODE_MAC
from appliance_sdk.bench.priority import prefer
from appliance_sdk.bench.receiving import received_by_thread
from appliance_sdk.errors import HarnessError
from appliance_sdk.harness.namespaces import Namespace
from appliance_sdk.server.orphan import die_with_parent

NODE_DEVICE, APPLIANCE_DEVICE = "gwlb", "appliance"
MTU_BYTES = 9216
"""EC2's largest MTU is 9,001; an 8,500-byte packet in GENEVE needs 8,568."""


class Network:
    """Both sides; gone when this process is.

    Packets are received on the core that sent them: requests on the generator's, replies on the
    appliance's. To hand single packets to another core (RPS) takes interrupts between cores, which
    no network card needs and which cost a virtual machine more than all that is to be measured.
    """

    def __init__(self) -> None:
        """Make it. Raises HarnessError if this process may not."""
        self.gwlb = Namespace()
        self.preferring = self.can_prefer = True
        """Whether processes run before the machine's other work; whether they were let to."""
        try:
            self.appliances = Namespace()
            try:
                self._join()
            except BaseException:
                self.appliances.close()
                raise
        except BaseException:
            self.gwlb.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add_address(self, address: str) -> None:
        """One more address on the appliances' side."""
        self.appliances.ip(f"address add {address}/16 dev {APPLIANCE_DEVICE}")

    def received_by_thread(self, cores: Sequence[int]) -> contextlib.AbstractContextManager[None]:
        """Meanwhile a thread of the kernel's receives requests on these cores.

        Raises HarnessError when entered, if that cannot be had.
        """
        return received_by_thread(self.appliances, APPLIANCE_DEVICE, cores)

    def start(
        self,
        side: Namespace,
        command: Sequence[str],
        cores: Sequence[int],
        *,
        out: IO[bytes] | int,
        err: IO[bytes] | int,
    ) -> subprocess.Popen[bytes]:
        """A process on one of the sides, on these cores, that ends when this one does.

        Ctrl-C does not reach it: whoever started it must end it.
        """

        def enter() -> None:
            die_with_parent()
            os.sched_setaffinity(0, cores)

        with side.entered():
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                preexec_fn=enter,  # noqa: PLW1509 - there are no threads here
                start_new_session=True,
            )
        if self.preferring:
            self.can_prefer = prefer(process.pid)
        return process

    def close(self) -> None:
        """Remove everything, and whoever is left inside."""
        self.appliances.close()
        self.gwlb.close()

    def _join(self) -> None:
        for side in (self.gwlb, self.appliances):
            _write(side, "/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")
            _write(side, "/proc/sys/net/ipv4/conf/all/rp_filter", "0")
        self.gwlb.join(NODE_DEVICE, self.appliances, APPLIANCE_DEVICE, mtu_bytes=MTU_BYTES)
        self.gwlb.ip(f"link set {NODE_DEVICE} up")
        # Not the MAC address of the device over there: its kernel then lets our replies lie.
        neighbour = f"neighbour add {NODE} lladdr {NODE_MAC} nud permanent dev {APPLIANCE_DEVICE}"
        self.appliances.ip(
            f"link set {APPLIANCE_DEVICE} address {APPLIANCE_MAC} up",
            f"route add {NODE}/32 dev {APPLIANCE_DEVICE}",
            neighbour,
        )


def _write(side: Namespace, path: str, text: str) -> None:
    """Write to one of the files below /proc/sys/net that belong to the namespace."""
    try:
        with side.entered(), open(path, "w", encoding="ascii") as file:
            file.write(text)
    except OSError as error:
        raise HarnessError(f"{path}: {error.strerror}") from error
