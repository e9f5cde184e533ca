"""What went between load balancer and appliances: kept, shown, and written as a capture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from appliance_sdk.errors import MalformedPacket
from appliance_sdk.harness.capture_file import places_of
from appliance_sdk.harness.records import Record, RecordWriter, make_record
from appliance_sdk.harness.trace import Outer, Sighting, describe
from appliance_sdk.wire import parse_geneve

if TYPE_CHECKING:
    from appliance_sdk.harness.harness import Harness

_LIMIT = 100_000
_SHOWN = 40


class OuterDatagram(NamedTuple):
    """One GENEVE datagram. `source` and `destination` are address and UDP port."""

    time: float
    direction: str
    """"to_target" or "from_target"."""
    source: tuple[str, int]
    destination: tuple[str, int]
    payload: bytes

    @property
    def header(self) -> bytes:
        """The GENEVE header with its options. Raises MalformedPacket."""
        return self.payload[: parse_geneve(self.payload, 0, len(self.payload)).length]

    @property
    def inner(self) -> bytes:
        """The packet inside. Raises MalformedPacket."""
        return self.payload[parse_geneve(self.payload, 0, len(self.payload)).length :]


class Capture:
    """Every outer datagram, in order; the first 100,000 are kept.

    With `watch` also what a harness's packets looked like everywhere else, for `write`.
    """

    def __init__(self) -> None:
        self.datagrams: list[OuterDatagram] = []
        self.missed = 0
        """How many came after the limit."""
        self._records: list[Record] = []
        self._places: dict[str, str] = {}

    def __call__(
        self,
        time: float,
        direction: str,
        source: tuple[str, int],
        destination: tuple[str, int],
        payload: bytes,
    ) -> None:
        """Take a datagram: what `Harness(tap=…)` calls."""
        if len(self.datagrams) >= _LIMIT:
            self.missed += 1
            return
        self.datagrams.append(OuterDatagram(time, direction, source, destination, payload))

    def watch(self, harness: Harness) -> None:
        """See every packet at every place of a harness."""
        self._places = places_of(harness.topology)
        harness.network.watchers.append(self._see)

    @property
    def to_target(self) -> list[OuterDatagram]:
        """What the load balancer sent."""
        return [one for one in self.datagrams if one.direction == "to_target"]

    @property
    def from_target(self) -> list[OuterDatagram]:
        """What the appliances sent."""
        return [one for one in self.datagrams if one.direction == "from_target"]

    def write(self, path: str | Path) -> None:
        """Write a capture that Wireshark reads, pcapng: one interface for each place."""
        with Path(path).open("wb") as file:
            writer = RecordWriter(file, self._places)
            for record in self._records or map(_record, self.datagrams):
                writer.write(record)

    def text(self) -> str:
        """The last of them, a line each."""
        return "\n".join(self._lines())

    def _see(self, sighting: Sighting) -> None:
        record = make_record(sighting) if len(self._records) < _LIMIT else None
        if record is not None:
            self._records.append(record)

    def _lines(self) -> Iterator[str]:
        for one in self.datagrams[-_SHOWN:]:
            arrow = "->" if one.direction == "to_target" else "<-"
            target = one.destination if one.direction == "to_target" else one.source
            try:
                inner = describe(one.inner)
            except MalformedPacket as error:
                inner = f"no GENEVE ({error.reason}), {len(one.payload)} bytes"
            yield f"{one.time:10.4f}  {arrow} {target[0]}  {inner}"


def _record(one: OuterDatagram) -> Record:
    outer = Outer(one.source, one.destination, one.payload)
    return Record(one.time, "geneve", "", one.payload, outer, "", 0, ())
