"""Flows as bytes: what is kept of one over a restart, and how it is taken up again."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgpack
import msgspec

from appliance_sdk.engine.decision import BLOCKED
from appliance_sdk.errors import PluginError
from appliance_sdk.flow.codec import decode_state, encode_state
from appliance_sdk.flow.direction import one_beginning
from appliance_sdk.flow.key import FlowKey
from appliance_sdk.plugin.flow import Flow
from appliance_sdk.plugin.handler import FlowHandler
from appliance_sdk.plugin.verdict import Action, Verdict

if TYPE_CHECKING:
    from appliance_sdk.engine.engine import Engine
    from appliance_sdk.plugin.manager import Seat

_VERSION = 2


class FlowRecord(msgspec.Struct, array_like=True):
    """One saved flow. Ages are seconds before the snapshot: clocks do not survive a restart."""

    version: int
    key: FlowKey
    age_s: float
    silent_s: float
    counters: tuple[int, int, int, int]
    established: bool
    midstream: bool
    direction_sure: bool
    action: int
    reason: str
    rule: str
    decided_by: str
    handlers: dict[str, tuple[str, bytes]]
    reported: bool


def worth_saving(flow: Flow) -> bool:
    """Whether it is better known than met anew. Not if its opening waits for a verdict, which is
    not to be passed over, or its TCP connection has not begun yet or is over."""
    held = flow._inspection.held
    if held is not None and held.opening:
        return False
    tcp = flow.tcp
    return flow.mode == BLOCKED or tcp is None or (tcp.established and not tcp.closed)


def save_flow(flow: Flow, now: float) -> bytes:
    """One flow with the states of its handlers."""
    handlers = {}
    for seat, handler in flow._inspection.handlers.items():
        kind = type(handler)
        handlers[seat.name] = (f"{kind.__module__}:{kind.__qualname__}", encode_state(handler))
    record = FlowRecord(
        version=_VERSION,
        key=flow.key,
        age_s=now - flow.opened_at,
        silent_s=now - flow.last_seen,
        counters=(
            flow.packets_to_server,
            flow.bytes_to_server,
            flow.packets_to_client,
            flow.bytes_to_client,
        ),
        established=flow.established,
        midstream=flow.midstream,
        direction_sure=flow.direction_sure,
        action=int(flow.verdict.action),
        reason=flow.verdict.reason,
        rule=flow.verdict.rule,
        decided_by=flow.decided_by,
        handlers=handlers,
        reported=flow.reported,
    )
    plain = msgspec.to_builtins(record, builtin_types=(bytes,))
    return msgpack.packb(plain)


def restore_flow(engine: Engine, data: bytes) -> bool:
    """Put a saved flow into the table with its handlers; False if the record does not fit."""
    try:
        plain = msgpack.unpackb(data)
        record = msgspec.convert(plain, FlowRecord, strict=True)
        zone = engine.pipeline.endpoints.get(record.key[0], engine.pipeline.default)
        seats = {seat.name: seat for seat in zone.seats}
        handlers = _handlers(record, seats)
        verdict = Verdict(Action(record.action), record.reason, record.rule)
        if not 0 <= record.silent_s <= record.age_s < math.inf:
            raise ValueError(f"ages of {record.age_s} and {record.silent_s} s")
    except (PluginError, msgspec.ValidationError, ValueError, TypeError) as error:
        engine.metrics["engine.state_refused"] += 1
        engine.host.log("engine.state_refused", error=error)
        return False
    if record.version != _VERSION or engine.table.get(record.key) or engine.table.full:
        engine.metrics["engine.state_refused"] += 1
        return False
    flow = engine.lifecycle.revived(record.key, zone)
    flow.opened_at = engine.now - record.age_s
    flow.last_seen = engine.now - record.silent_s
    flow._beginning = one_beginning(True, record.direction_sure, record.midstream)
    flow.packets_to_server, flow.bytes_to_server = record.counters[:2]
    flow.packets_to_client, flow.bytes_to_client = record.counters[2:]
    flow._asked = len(zone.seats)
    for seat, handler in handlers:
        engine.attachment.attach(flow, seat, handler)
    engine.lifecycle.admit(flow, not record.established)
    flow.reported = record.reported
    if verdict.terminal:
        engine.lifecycle.decide(flow, verdict, None)
    else:
        flow.verdict = verdict
    flow.decided_by = record.decided_by
    for seat, handler in handlers:
        engine.lifecycle.restored(seat, handler)
    return True


def _handlers(record: FlowRecord, seats: dict[str, Seat]) -> list[tuple[Seat, FlowHandler[Any]]]:
    found = []
    for name, (tag, state) in record.handlers.items():
        kind = FlowHandler.registry.get(tag)
        if kind is None or name not in seats:
            raise PluginError(name, f"saved state of {tag}, which is not here")
        handler: FlowHandler[Any] = decode_state(kind, state)
        found.append((seats[name], handler))
    return found
