"""What plugins have saved of flows, as files that Wireshark reads."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from appliance_sdk.plugin.events import Event, Recorded
from appliance_sdk.plugin.sink import Sink
from appliance_sdk.wire import build_udp
from appliance_sdk.wire.geneve import PORT
from appliance_sdk.wire.pcapng_writer import PcapngWriter

_RAW_IP = 101
_LONGEST_REASON = 40


class CaptureFiles(Sink):
    """Writes a pcapng file for each `flow.save()`; the oldest go when there are too many bytes."""

    def __init__(self, folder: str, most_bytes: int) -> None:
        super().__init__()
        self._folder = Path(folder)
        self._most_bytes = most_bytes

    def write(self, events: Sequence[Event]) -> None:
        """Write the files. A file is there whole or not at all."""
        for event in events:
            if isinstance(event, Recorded) and event.packets:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._write(event)
                self._tidy()

    def _write(self, event: Recorded) -> None:
        path = self._folder / _name(event)
        partial = path.with_suffix(".part")
        try:
            with partial.open("wb") as file:
                about = f"{event.plugin}: {event.reason}"
                writer = PcapngWriter(file, application="appliance-sdk", comment=about)
                geneve = writer.interface("geneve", _RAW_IP, description="GENEVE as it came")
                for packet in event.packets:
                    port, node = int.from_bytes(packet.peer[:2], "big"), packet.peer[2:]
                    outer = build_udp(node, packet.local, port, PORT, payload=packet.datagram)
                    writer.packet(geneve, event.timestamp - packet.age_s, outer, towards="in")
            partial.rename(path)
        except OSError:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise

    def _tidy(self) -> None:
        """Keep within the bytes; files that others put here are none of ours."""
        files = sorted(self._folder.glob("*-flow-*.pcapng"), key=lambda path: path.name)
        sizes = {path: os.stat(path).st_size for path in files}
        total = sum(sizes.values())
        for path in files[:-1]:
            if total <= self._most_bytes:
                return
            path.unlink()
            total -= sizes[path]


def _name(event: Recorded) -> str:
    moment = datetime.fromtimestamp(event.timestamp, UTC).strftime("%Y%m%dT%H%M%S.%f")
    flow = event.flow.id if event.flow is not None else 0
    reason = re.sub(r"[^a-z0-9]+", "-", event.reason.lower()).strip("-")[:_LONGEST_REASON]
    return f"{moment}-flow-{flow}{'-' if reason else ''}{reason}.pcapng"
