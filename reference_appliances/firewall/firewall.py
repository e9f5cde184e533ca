"""The reference firewall: default deny, ordered rules, judged once a flow."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from appliance_sdk import (
    Appliance,
    Flow,
    FlowHandler,
    Opening,
    PluginConfig,
    PluginError,
    Verdict,
)
from reference_appliances.firewall.events import FirewallVerdict, PolicyLoaded
from reference_appliances.firewall.handlers import GateHandler, IcmpHandler
from reference_appliances.firewall.limiter import NewFlowLimiter
from reference_appliances.firewall.matcher import Judgement, Matcher
from reference_appliances.firewall.policy_file import read_policy
from reference_appliances.firewall.ruleset import (
    ICMP,
    ICMPV6,
    LIMIT,
    MIDSTREAM,
    TCP,
    Ruleset,
    protocol_number,
)

_RESTORED_BY_S = 1.0
"""Seconds after the start by which flows of the last run are back in the table."""

_LIMITED = Verdict.DROP.because("this source opens flows too fast", rule=LIMIT)


class FirewallConfig(PluginConfig, frozen=True, kw_only=True):
    """The `[plugins.firewall]` table."""

    policy: str
    """Path of the policy file; read again on SIGHUP and every `reload_s` seconds."""
    log: Literal["rules", "all", "nothing"] = "rules"
    """Report verdicts of rules with `log = true`, of all flows, or none."""


class Firewall(Appliance):
    """Lets through what the policy allows, nothing else.

    A flow is judged by its first packet: who opened it, to whom, to which port. What is allowed is
    then bypassed. `midstream` is a key of the policy file; the one in `PluginConfig` stays at
    "continue", or the engine would answer before the policy is asked.
    """

    config: FirewallConfig

    _matcher: Matcher | None = None
    _limiter: NewFlowLimiter
    _ruleset: Ruleset | None = None
    _started = False
    _shut: set[int]
    """Ids of live flows that a GateHandler holds back: nothing on the flow itself shows it."""

    def __init__(self, config: FirewallConfig | None = None, **context: Any) -> None:
        super().__init__(config, **context)
        self._shut = set()

    @classmethod
    def load(cls, config: FirewallConfig) -> Any:
        """Read and check the policy file, away from the traffic."""
        return msgspec.to_builtins(read_policy(config.policy))

    def loaded(self, data: Any) -> None:
        """Put a policy in force; flows that it forbids get its verdict, the others live on."""
        ruleset = msgspec.convert(data, Ruleset)
        if self._ruleset is None or self._ruleset.limit != ruleset.limit:
            self._limiter = NewFlowLimiter(ruleset.limit, self.shared)
        self._ruleset = ruleset
        self._matcher = Matcher(ruleset, self.zone)
        if self._started:
            self._report_policy(ruleset)
            self.recheck_flows()

    def start(self) -> None:
        """Refuse to run without a policy."""
        if self._ruleset is None:
            raise PluginError(self.name, "no policy was loaded")
        self._started = True
        self._report_policy(self._ruleset)
        self.wake(_RESTORED_BY_S)

    def woken(self) -> None:
        """Flows were restored after `start`; the policy may have changed while we were down."""
        self.recheck_flows()

    def flow_opened(self, flow: Flow) -> Opening:
        """Judge a flow by its first packet."""
        packet = flow.packet
        if packet is not None and not self._limiter.take(packet.source):
            self.count(f"hits.{LIMIT}")
            return _LIMITED
        protocol = protocol_number(flow.protocol)
        if protocol in (ICMP, ICMPV6):
            return IcmpHandler()
        if protocol != TCP:
            return self._open_without_handshake(flow)
        judgement = self._judge(flow, by_client=True)
        if flow.midstream and self.matcher.midstream is not None:
            judgement = self.matcher.midstream
        self.report(flow, judgement.verdict, log=judgement.log)
        return judgement.verdict

    def recheck(self, flow: Flow, handler: FlowHandler[Any] | None) -> Opening:
        """Judge a live flow by a new policy."""
        if isinstance(handler, IcmpHandler):
            handler.forget(self)
            return None
        judgement = self._judge(flow, by_client=not _server_opened(handler))
        if flow.verdict.terminal:
            # What the new policy allows may begin again, but never in its middle.
            released = judgement.allowed and flow.verdict.rule != MIDSTREAM
            return Verdict.DONE if released else None
        if judgement.allowed or (isinstance(handler, GateHandler) and not handler.opened):
            return None
        self.report(flow, judgement.verdict, log=judgement.log)
        return judgement.verdict

    def flow_closed(self, flow: Flow, handler: FlowHandler[Any] | None) -> None:
        """Forget what was remembered of the flow."""
        self._shut.discard(flow.id)

    @property
    def matcher(self) -> Matcher:
        """The policy in force."""
        if self._matcher is None:
            raise PluginError(self.name, "no policy was loaded")
        return self._matcher

    def judge_sender(self, flow: Flow, *, by_client: bool) -> Judgement:
        """What the policy says if this end opens the flow, in which nothing says who did."""
        judgement = self._judge(flow, by_client=by_client)
        if (
            judgement.verdict == Verdict.REJECT
            and self._judge(flow, by_client=not by_client).allowed
        ):
            # To reject is to refuse both ends for good, and the other end may still open it.
            verdict = Verdict.DROP.because(judgement.verdict.reason, rule=judgement.verdict.rule)
            return Judgement(verdict, judgement.log)
        return judgement

    def shut(self, flow: Flow, *, open_again: bool = False) -> None:
        """Remember that the flow is held back; or, with `open_again`, no longer."""
        if open_again:
            self._shut.discard(flow.id)
        else:
            self._shut.add(flow.id)

    def allows_errors_about(self, related: Flow, receiver: bytes) -> bool:
        """Whether `receiver` (packed) sent something in this flow, and was let."""
        if receiver not in (related.client_ip, related.server_ip):
            return False
        if related.protocol in ("icmp", "icmpv6"):  # the flow says nothing: it carries all sorts
            by_client = receiver == related.client_ip
            return self.judge_sender(related, by_client=by_client).allowed
        return not related.verdict.terminal and related.id not in self._shut

    def report(self, flow: Flow, verdict: Verdict, *, log: bool, by_client: bool = True) -> None:
        """Count a decision, and report it if it is to be."""
        self.count(f"hits.{verdict.rule}")
        if self.config.log == "all" or (log and self.config.log == "rules"):
            action = verdict.name if verdict.terminal else "allow"
            event = FirewallVerdict(
                action=action, reason=verdict.reason, rule=verdict.rule, to_server=by_client
            )
            self.emit(event, flow)

    def _judge(self, flow: Flow, *, by_client: bool) -> Judgement:
        protocol = protocol_number(flow.protocol)
        if by_client:
            return self.matcher.judge(protocol, flow.client_ip, flow.server_ip, flow.server_port)
        return self.matcher.judge(protocol, flow.server_ip, flow.client_ip, flow.client_port)

    def _open_without_handshake(self, flow: Flow) -> Opening:
        judgement = self.judge_sender(flow, by_client=True)
        self.report(flow, judgement.verdict, log=judgement.log)
        if judgement.allowed or judgement.verdict == Verdict.REJECT:
            return judgement.verdict
        self.shut(flow)
        return GateHandler(_last=judgement.verdict)

    def _report_policy(self, ruleset: Ruleset) -> None:
        event = PolicyLoaded(rules=len(ruleset.rules), warnings=list(ruleset.warnings))
        self.emit(event)


def _server_opened(handler: FlowHandler[Any] | None) -> bool:
    return isinstance(handler, GateHandler) and handler.server_opened
