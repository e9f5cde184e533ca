"""Fragments: each shares the fate of the first one, and the last to come is judged as the whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance_sdk.engine.asking import Asking, discard
from appliance_sdk.engine.decision import BLOCKED, DROP, FORWARD, HANDLED, HELD, REPLACED, Place
from appliance_sdk.flow.fragments import Fragment
from appliance_sdk.plugin.flow import Flow
from appliance_sdk.plugin.hold import Hold
from appliance_sdk.plugin.manager import Seat
from appliance_sdk.plugin.verdict import Action
from appliance_sdk.wire.packet import Headers

if TYPE_CHECKING:
    from appliance_sdk.engine.engine import Engine
    from appliance_sdk.engine.judge import Judge
    from appliance_sdk.wire.buffer import Buffer


class FragmentJudge:
    """Decides about the fragments of one engine."""

    def __init__(self, engine: Engine, judge: Judge, asking: Asking) -> None:
        self._engine = engine
        self._judge = judge
        self._asking = asking

    def fragment(
        self, headers: Headers, endpoint_id: int, cookie: int, place: Place, end: int
    ) -> int:
        """What becomes of a fragment; arguments as for `Judge.find`."""
        engine = self._engine
        _peer, _local, buffer, _datagram, inner = place
        fragment = engine.fragments.add(endpoint_id, headers, buffer, inner, engine.now)
        if fragment.reason:
            engine.anomalies.add("fragment", fragment.reason)
            return engine.drop(fragment.reason)
        judged = self._fate(headers, endpoint_id, cookie, place, end, fragment)
        if judged == DROP and fragment.whole is not None:
            engine.fragments.refuse(fragment.entry)
        return judged

    def _fate(
        self,
        headers: Headers,
        endpoint_id: int,
        cookie: int,
        place: Place,
        end: int,
        fragment: Fragment,
    ) -> int:
        engine = self._engine
        inner = place[4]
        entry = fragment.entry
        if headers.fragment_offset == 0:
            found = self._judge.find(endpoint_id, headers, cookie, place, end)
            if isinstance(found, int):
                entry.drop = found == DROP
                return found
            entry.owner = found
        if entry.drop or entry.owner is None:
            return engine.drop("fragment_verdict")
        flow, to_server = entry.owner
        if flow.end_reason:
            return engine.drop("fragment_verdict")
        self._judge.count(flow, to_server, headers.end - inner)
        self._judge.record(flow, to_server, headers, place)
        if flow.mode == HELD:
            entry.drop = True
            return engine.drop("hold_fragment")
        if flow.mode == BLOCKED:
            entry.drop = True
            return self._asking.refuse(flow, place[2], inner, headers, to_server)
        if flow.mode == HANDLED and headers.fragment_offset == 0:
            judged = self._ask_about_first(flow, to_server, place[2], inner, end, headers)
            if judged == DROP:
                entry.drop = True
                return DROP
        if fragment.whole is None:
            return FORWARD
        whole = fragment.whole
        judged = self._asking.packet(
            flow, to_server, whole, 0, len(whole), None, (*place[:2], whole, 0, 0)
        )
        if judged == REPLACED:
            engine.outbox.pop()
            engine.edited -= 1
            return engine.drop("fragment_edited")
        return judged

    def _ask_about_first(
        self, flow: Flow, to_server: bool, buffer: Buffer, start: int, end: int, headers: Headers
    ) -> int:
        """Ask the handlers that want to see it: its headers decide about what follows, too."""
        every = flow._inspection.on_packet
        hooks = [(seat, hook) for seat, hook in every if hook.__self__.fragments]
        if not hooks:
            return FORWARD
        packet = self._asking.view(flow, buffer, start, end, headers, to_server)
        holds: list[tuple[Seat, Hold]] = []
        verdict, seat = self._asking.ask_hooks(flow, packet, hooks, holds)
        self._asking.release(packet)
        discard(holds)
        if verdict is None:
            return self._engine.drop("hold_fragment") if holds else FORWARD
        if verdict.action is not Action.DROP:
            self._engine.lifecycle.decide(flow, verdict, seat)
        name = seat.name if seat else ""
        return self._asking.dropped(flow, verdict, name, buffer, start, headers, to_server)
