"""What the firewall keeps of flows whose packets do not say who opened them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from appliance_sdk import FlowHandler, Outcome, Packet, Verdict
from reference_appliances.firewall.icmp import Kind, kind_of
from reference_appliances.firewall.ruleset import RELATED, protocol_number

if TYPE_CHECKING:
    from reference_appliances.firewall.firewall import Firewall

_UNASKED = Verdict.DROP.because("an answer nobody asked for", rule=RELATED)
_UNRELATED = Verdict.DROP.because("an error about no allowed flow", rule=RELATED)
_LOCAL = Verdict.DROP.because("a message between neighbours, never through a router", rule=RELATED)
_ANSWER = Verdict.CONTINUE.because("the answer to an allowed query", rule=RELATED)
_ERROR = Verdict.CONTINUE.because("an error about an allowed flow", rule=RELATED)


class GateHandler(FlowHandler["Firewall"]):
    """A flow that its first sender may not open, in a protocol where either end could.

    Nothing on the wire tells an answer from a first message, so each end is judged as the opener
    of what it sends. A blocked stranger who keeps sending thus cannot keep the inside from opening
    the same flow (IKE 500 to 500, say), nor can a reload come too late for one who keeps trying.
    """

    fragments = True
    opened: bool = False
    server_opened: bool = False
    _last: Verdict | None = None

    def packet(self, packet: Packet) -> Outcome:
        """Drop until one comes from an end that may open the flow."""
        if self.opened:  # restored after a restart
            return Verdict.DONE
        firewall, flow = self.plugin, self.flow
        judgement = firewall.judge_sender(flow, by_client=packet.to_server)
        verdict = judgement.verdict
        if not _same(verdict, self._last):
            self._last = verdict
            firewall.report(flow, verdict, log=judgement.log, by_client=packet.to_server)
        if judgement.allowed:
            self.opened, self.server_opened = True, not packet.to_server
            firewall.shut(flow, open_again=True)
            return verdict
        if verdict == Verdict.REJECT:
            return verdict
        return Verdict.DROP.because(verdict.reason, rule=verdict.rule)

    def restored(self) -> None:
        """After a restart: held back as before."""
        if not self.opened:
            self.plugin.shut(self.flow)


class IcmpHandler(FlowHandler["Firewall"]):
    """All ICMP between two addresses is one flow, so every message in it is judged by itself.

    Queries (echo) by the rules, with their sender as the opener; answers if the other end asked;
    errors if the flow that they quote is allowed. Nothing here blocks the flow as a whole: the
    errors that path MTU discovery lives on would be lost with it.
    """

    fragments = True
    client_asked: bool = False
    server_asked: bool = False
    _reported: dict[tuple[bool, str], Verdict] = msgspec.field(default_factory=dict)

    def packet(self, packet: Packet) -> Outcome:
        """Judge one message."""
        flow = self.flow
        kind = kind_of(protocol_number(flow.protocol), packet.icmp_type)
        log = False
        if kind is Kind.QUERY:
            judgement = self.plugin.judge_sender(flow, by_client=packet.to_server)
            verdict, log = judgement.verdict, judgement.log
            if judgement.allowed and packet.to_server:
                self.client_asked = True
            elif judgement.allowed:
                self.server_asked = True
        elif kind is Kind.ANSWER:
            asked = self.server_asked if packet.to_server else self.client_asked
            verdict = _ANSWER if asked else _UNASKED
        elif kind is Kind.ERROR:
            related = packet.related
            known = related is not None and self.plugin.allows_errors_about(
                related, packet.destination
            )
            verdict = _ERROR if known else _UNRELATED
        else:
            verdict = _LOCAL
        if not _same(verdict, self._reported.get((packet.to_server, kind.value))):
            self._reported[packet.to_server, kind.value] = verdict
            self.plugin.report(flow, verdict, log=log, by_client=packet.to_server)
        if verdict.terminal:
            return Verdict.DROP.because(verdict.reason, rule=verdict.rule)
        return None

    def forget(self, firewall: Firewall) -> None:
        """The policy changed: answers pass only to an end that may still ask."""
        flow = self.flow
        self.client_asked &= firewall.judge_sender(flow, by_client=True).allowed
        self.server_asked &= firewall.judge_sender(flow, by_client=False).allowed


def _same(one: Verdict, other: Verdict | None) -> bool:
    return other is not None and (one.action, one.rule) == (other.action, other.rule)
