"""A capture of any places of the picture, written while it runs: pcapng, for Wireshark."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import TracebackType

from appliance_sdk.errors import HarnessError
from appliance_sdk.harness.records import RecordWriter, make_record
from appliance_sdk.harness.topology import Topology
from appliance_sdk.harness.trace import Sighting
from appliance_sdk.plugin.config import near_miss


class CaptureFile:
    """Takes what `at` sees, by default every place, until it is closed; `Harness.capture` opens it.

    Nothing is held back: after a crash the file has every packet until then. If it cannot be
    written any further, because the disk is full, the capture ends there, `failed` says why, and
    `complain` is called with that line; the harness goes on.
    """

    def __init__(
        self,
        path: str | Path,
        places: Mapping[str, str],
        at: Collection[str] = (),
        *,
        comment: str = "",
        complain: Callable[[str], None] | None = None,
    ) -> None:
        for name in at:
            if name not in places:
                hint = near_miss(name, list(places))
                raise HarnessError(f"no place {name!r}" + (f" ({hint})" if hint else ""))
        self.path = Path(path)
        self.packets = 0
        """How many it has."""
        self.failed = ""
        """Why it ended before it was closed."""
        self._at = frozenset(at)
        self._complain = complain or _warn
        self._whole = 0
        try:
            self._file = self.path.open("wb", buffering=0)
        except OSError as error:
            raise HarnessError(f"{path}: {error.strerror}") from None
        with self._ending():
            self._writer = RecordWriter(self, places, comment)

    def see(self, sighting: Sighting) -> None:
        """A packet came to a place."""
        if self.failed or self._file.closed:
            return
        record = make_record(sighting)
        if record is None or (self._at and record.at not in self._at):
            return
        with self._ending():
            self._writer.write(record)
            self.packets += 1

    def write(self, data: bytes, /) -> None:
        """Append a block. Raises OSError."""
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]
        self._whole += len(data)

    def close(self) -> None:
        """End the capture."""
        with self._ending():
            self._file.close()

    def __enter__(self) -> CaptureFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def _ending(self) -> Iterator[None]:
        """What the file system refuses ends the capture, at its last whole block."""
        try:
            yield
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(self._whole)
                self._file.close()
            self.failed = (
                f"{self.path}: {error.strerror}: the capture ends after {self.packets} packets"
            )
            self._complain(self.failed)


def places_of(topology: Topology) -> dict[str, str]:
    """Every place of a topology that a packet can be seen at, with what it is."""
    places = {"internet": "between hosts on the internet and internet gateways"}
    for name, host in topology.hosts.items():
        places[name] = f"host {', '.join(host.addresses)}"
    for vpc_name, vpc in topology.vpcs.items():
        places[vpc_name] = "VPC"
        if vpc.internet_gateway:
            places["igw"] = "internet gateway"
        for name, subnet in vpc.subnets.items():
            places[name] = f"subnet {', '.join(subnet.cidrs)} of {vpc_name}"
        for name, endpoint in vpc.endpoints.items():
            places[name] = f"endpoint in {endpoint.subnet} of {vpc_name}"
    for name in topology.transit_gateways:
        places[name] = "transit gateway"
    for name in topology.gateways:
        nodes = ", ".join(topology.nodes(name).values())
        places[name] = f"load balancer, GENEVE to and from its nodes {nodes}"
        for target in topology.targets(name):
            places[target.name] = f"target of {name}, GENEVE to and from {target.address}"
    return places


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=2)
