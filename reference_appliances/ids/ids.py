"""The plugin: rules in, a handler for each flow that rules are about, alerts and verdicts out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from appliance_sdk import Alert, Appliance, Flow, FlowHandler, Opening, PluginError, Verdict
from reference_appliances.ids.classification import BUILT_IN, read_classes
from reference_appliances.ids.compiled import CompiledRule
from reference_appliances.ids.detector import Detector
from reference_appliances.ids.events import RulesLoaded
from reference_appliances.ids.groups import Groups
from reference_appliances.ids.handlers import PacketInspector, StreamInspector
from reference_appliances.ids.rule import TCP, Ruleset, protocol_number
from reference_appliances.ids.rule_files import load_rules
from reference_appliances.ids.settings import IdsConfig

_NAMED = 1000
"""Skipped rules that an event names; the rest it counts."""
_MIDSTREAM = {
    name: verdict.because("the beginning of this connection was not seen", rule="midstream")
    for name, verdict in (("block", Verdict.BLOCK), ("reject", Verdict.REJECT))
}


class Ids(Appliance):
    """Alerts on what rules in Suricata's language describe and, in ips mode, stops it."""

    config: IdsConfig

    _detector: Detector | None = None
    _ruleset: Ruleset = Ruleset()
    _started = False

    @classmethod
    def load(cls, config: IdsConfig) -> Any:
        """Read and check the rules, away from the traffic."""
        classes = read_classes(config.classification) if config.classification else BUILT_IN
        groups = Groups(config.variables)
        ruleset = load_rules(
            config.rules, groups, classes, skip_unsupported=config.skip_unsupported
        )
        return msgspec.to_builtins(ruleset, builtin_types=(bytes,))

    def loaded(self, data: Any) -> None:
        """Put rules in force, for live flows too."""
        self._ruleset = msgspec.convert(data, Ruleset, builtin_types=(bytes,))
        self._detector = Detector(self._ruleset, self.config.action_order)
        if self._started:
            self._report_rules()
            self.recheck_flows()

    def start(self) -> None:
        """Refuse to run without rules."""
        if self._detector is None:
            raise PluginError(self.name, "no rules were loaded")
        self._started = True
        self._report_rules()

    def flow_opened(self, flow: Flow) -> Opening:
        """Inspect a flow if any rule could match it."""
        if flow.midstream and flow.tcp is not None:
            verdict = _MIDSTREAM.get(self._midstream_flows)
            if verdict is not None:
                return verdict
        return self._inspector(flow)

    def recheck(self, flow: Flow, handler: FlowHandler[Any] | None) -> Opening:
        """Go on with other rules. What was blocked stays blocked, what was passed stays passed."""
        if flow.verdict.terminal:
            return None
        if isinstance(handler, PacketInspector):
            handler.forget_rules()
            return None
        inspector = self._inspector(flow)
        if isinstance(inspector, StreamInspector):
            inspector.late = True
        return inspector

    @property
    def detector(self) -> Detector:
        """The rules in force."""
        if self._detector is None:
            raise PluginError(self.name, "no rules were loaded")
        return self._detector

    @property
    def prevents(self) -> bool:
        """Whether drop and reject do what they say."""
        return self.config.mode == "ips"

    def report(self, rules: Sequence[CompiledRule], flow: Flow, *, to_server: bool) -> None:
        """Send an alert for each rule, up to the bound."""
        bound = self.config.alerts_per_packet
        for match in rules[:bound]:
            rule = match.rule
            stopped = self.prevents and rule.action in ("drop", "reject")
            alert = Alert(
                message=rule.message,
                rule=str(rule.sid),
                severity=rule.priority,
                action="blocked" if stopped else "allowed",
                to_server=to_server,
                fields=dict(rule.metadata),
                gid=rule.gid,
                rev=rule.rev,
                category=rule.category,
            )
            self.emit(alert, flow)
            self.count("alerts")
        if len(rules) > bound:
            self.count("alerts_suppressed", len(rules) - bound)

    def weigh(self, match: CompiledRule, flow: Flow, *, to_server: bool) -> tuple[bool, bool]:
        """Count a match of a rule with a threshold: does the rule act, is it reported?"""
        threshold = match.threshold
        if threshold is None:
            return True, True
        ends = flow.client_ip, flow.server_ip
        source, destination = ends if to_server else ends[::-1]
        key = match.id.to_bytes(8, "big") + threshold.key(source, destination)
        return threshold.weigh(self.shared.count(key, window_s=threshold.seconds))

    def _inspector(self, flow: Flow) -> PacketInspector | Verdict:
        protocol = protocol_number(flow.protocol)
        if not any(self.detector.group(protocol, to_server) for to_server in (True, False)):
            return Verdict.DONE
        untracked = flow.midstream and self._midstream_flows == "packets"
        if protocol == TCP and not untracked:
            return StreamInspector()
        return PacketInspector()

    @property
    def _midstream_flows(self) -> str:
        if self.config.midstream_flows != "auto":
            return self.config.midstream_flows
        return "reject" if self.prevents else "inspect"

    def _report_rules(self) -> None:
        problems = self._ruleset.problems
        self.emit(
            RulesLoaded(
                rules=len(self._ruleset.rules),
                skipped=len(problems),
                problems=list(problems[:_NAMED]),
            )
        )
        if problems:
            self.count("rules_skipped", len(problems))
