"""Events as EVE JSON lines, the format that Suricata made common."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import stat
from collections.abc import Callable, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

import msgspec

from appliance_sdk.plugin.configurable import kebab
from appliance_sdk.plugin.events import (
    Alert,
    Anomaly,
    Dropped,
    Event,
    FlowEnded,
    FlowInfo,
    Recorded,
    Statistics,
)
from appliance_sdk.plugin.sink import Sink

_BASE_FIELDS = frozenset(("timestamp", "plugin", "flow", "packet_number"))
_LATEST = datetime.datetime(9999, 12, 31, tzinfo=datetime.UTC).timestamp()
_TYPES: dict[type[Event], str] = {
    Alert: "alert",
    Dropped: "drop",
    FlowEnded: "flow",
    Anomaly: "anomaly",
    Statistics: "stats",
}
_IPV6_PROTOCOLS = {"icmpv6": "IPv6-ICMP"}


def eve_record(event: Event) -> dict[str, Any]:
    """One event as an EVE object."""
    record: dict[str, Any] = {"timestamp": eve_time(event.timestamp)}
    flow = event.flow
    if flow is not None:
        record["flow_id"] = flow.id
    if event.packet_number:
        record["pcap_cnt"] = event.packet_number
    record["event_type"] = _event_type(event)
    if flow is not None:
        record.update(_tuple(flow, getattr(event, "to_server", True)))
    if event.plugin:
        record["plugin"] = event.plugin
    writer: Callable[[Any], dict[str, Any]] = _WRITERS.get(type(event), _custom)
    record.update(writer(event))
    if flow is not None:
        record["gwlb"] = {
            "vpce_id": flow.endpoint,
            "attachment_id": flow.attachment_id,
            "cookie": flow.cookie,
            "zone": flow.zone,
        }
    return record


def eve_time(timestamp: float) -> str:
    """ISO 8601 with microseconds and zone, as Suricata writes it.

    A capture may say any time; beyond what a date can be it is the first or the last of them.
    """
    within = min(max(timestamp, 0.0), _LATEST)
    moment = datetime.datetime.fromtimestamp(within, datetime.UTC)
    # Cheaper than strftime; the record of a flow has three of them.
    return moment.isoformat(timespec="microseconds").replace("+00:00", "+0000")


def _event_type(event: Event) -> str:
    return _TYPES.get(type(event)) or kebab(type(event).__name__)


def _tuple(flow: FlowInfo, to_server: bool) -> dict[str, Any]:
    source = flow.client_ip, flow.client_port
    destination = flow.server_ip, flow.server_port
    if not to_server:
        source, destination = destination, source
    record: dict[str, Any] = {"src_ip": source[0]}
    if flow.client_port or flow.server_port:
        record["src_port"] = source[1]
    record["dest_ip"] = destination[0]
    if flow.client_port or flow.server_port:
        record["dest_port"] = destination[1]
    record["proto"] = _IPV6_PROTOCOLS.get(flow.protocol, flow.protocol.upper())
    return record


def _alert(event: Alert) -> dict[str, Any]:
    alert: dict[str, Any] = {"action": event.action, "signature": event.message}
    if event.rule.isdecimal():
        alert["signature_id"] = int(event.rule)
    elif event.rule:
        alert["rule"] = event.rule
    if event.gid:
        alert.update(gid=event.gid, rev=event.rev, category=event.category)
    alert["severity"] = event.severity
    if event.fields:
        alert["metadata"] = event.fields
    return {"direction": "to_server" if event.to_server else "to_client", "alert": alert}


def _drop(event: Dropped) -> dict[str, Any]:
    return {
        "direction": "to_server" if event.to_server else "to_client",
        "drop": {
            "len": event.length,
            "reason": event.reason,
            "action": event.action,
            "rule": event.rule,
        },
    }


def _flow(event: FlowEnded) -> dict[str, Any]:
    flow = {
        "pkts_toserver": event.packets_to_server,
        "pkts_toclient": event.packets_to_client,
        "bytes_toserver": event.bytes_to_server,
        "bytes_toclient": event.bytes_to_client,
        "start": eve_time(event.timestamp - (event.ended_at - event.opened_at)),
        "end": eve_time(event.timestamp - (event.ended_at - event.last_seen)),
        "age": round(event.last_seen - event.opened_at),
        "state": "closed" if event.end_reason in ("fin", "rst") else "established",
        "reason": event.end_reason,
        "action": event.verdict,
        "midstream": event.midstream,
        "direction_sure": event.direction_sure,
    }
    if event.reason or event.rule or event.decided_by:
        verdict = {"by": event.decided_by, "reason": event.reason, "rule": event.rule}
        flow["verdict"] = verdict
    record: dict[str, Any] = {"flow": flow}
    if event.tcp_state:
        record["tcp"] = {"state": event.tcp_state}
    return record


def _anomaly(event: Anomaly) -> dict[str, Any]:
    return {"anomaly": {"type": event.layer, "event": event.reason, "count": event.count}}


def _stats(event: Statistics) -> dict[str, Any]:
    return {"stats": event.counters}


def _recorded(event: Recorded) -> dict[str, Any]:
    size = sum(len(packet.datagram) for packet in event.packets)
    saved = {"reason": event.reason, "packets": len(event.packets), "bytes": size}
    return {"recorded": saved}


def _custom(event: Event) -> dict[str, Any]:
    plain = msgspec.to_builtins(event)
    fields = {name: value for name, value in plain.items() if name not in _BASE_FIELDS}
    return {_event_type(event).replace("-", "_"): fields}


_WRITERS: dict[type[Event], Callable[[Any], dict[str, Any]]] = {
    Alert: _alert,
    Dropped: _drop,
    FlowEnded: _flow,
    Anomaly: _anomaly,
    Statistics: _stats,
    Recorded: _recorded,
}


class EveFile(Sink):
    """Appends EVE lines to a file; a file that was moved away is opened anew."""

    def __init__(self, path: str, types: Sequence[str] = ()) -> None:
        super().__init__()
        self._path = Path(path)
        self._types = frozenset(types)
        self._file: FileIO | None = None
        self._inode = 0

    def write(self, events: Sequence[Event]) -> None:
        """Append the events: all, or none and OSError, but for a device that cannot go back."""
        records = [eve_record(event) for event in events]
        if self._types:
            records = [r for r in records if r["event_type"] in self._types]
        if not records:
            return
        lines = "".join(json.dumps(r, separators=(",", ":"), default=str) + "\n" for r in records)
        file = self._open()
        try:
            _append(file, lines.encode())
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            file, self._file = self._file, None
            with contextlib.suppress(OSError):
                file.close()

    def _open(self) -> FileIO:
        if self._file is not None:
            try:
                if os.stat(self._path).st_ino == self._inode:
                    return self._file
            except FileNotFoundError:
                pass
            self.close()
        self._file = self._path.open("ab", buffering=0)
        self._inode = os.fstat(self._file.fileno()).st_ino
        return self._file


def _append(file: FileIO, data: bytes) -> None:
    """Append all or, on a full disk, nothing: half a line would spoil the next one."""
    regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    end = file.seek(0, os.SEEK_END) if regular else 0
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[file.write(rest) or 0 :]
    except OSError:
        if regular:
            file.truncate(end)
        raise
