"""A rule ready to match: its header, its conditions, and what it looks for where."""

from __future__ import annotations

from collections.abc import Sequence

from reference_appliances.ids.header import Header, Sets
from reference_appliances.ids.keywords.content import Content
from reference_appliances.ids.keywords.flow import FlowOption
from reference_appliances.ids.keywords.packet import Dsize, Flags
from reference_appliances.ids.keywords.threshold import Threshold
from reference_appliances.ids.option import BUDGET, Subject
from reference_appliances.ids.payload import Payload
from reference_appliances.ids.rule import PROTOCOLS, Rule

_SID_BITS = 32


class CompiledRule:
    """One rule. Where it is tried follows Suricata's rule types:

    a rule that is nothing but a header is tried once a flow and direction, or with a negated
    address on every packet; one with contents is tried on a TCP stream, and if they count from the
    beginning, also on each packet; everything else is tried on packets.
    """

    __slots__ = (
        "_conditions",
        "_payload",
        "about_flow",
        "fast",
        "header",
        "id",
        "in_packets",
        "in_stream",
        "ip_only",
        "order",
        "rule",
        "several",
        "stream_only",
        "threshold",
        "to_server",
    )

    def __init__(self, rule: Rule, order: int, sets: Sets, *, negated: bool = False) -> None:
        self.rule = rule
        self.order = order
        """Its place when several match; the lowest is judged first."""
        self.id = rule.gid << _SID_BITS | rule.sid
        self.header = Header(rule, sets)
        options = rule.options
        self._conditions = [c for c in (option.condition() for option in options) if c is not None]
        matchers = [m for m in (option.payload() for option in options) if m is not None]
        self._payload = Payload(matchers) if matchers else None
        self.several = len(matchers) > 1
        """It may match later, although its fast pattern was found now."""
        contents = [option for option in options if isinstance(option, Content)]
        self.fast = fast_pattern(contents)
        flow = next((o for o in options if isinstance(o, FlowOption)), FlowOption())
        self.to_server = flow.to_server
        protocol = PROTOCOLS[rule.protocol]
        self.stream_only = protocol.streams or flow.stream is True
        self.threshold = next((o for o in options if isinstance(o, Threshold)), None)
        self.about_flow = not [o for o in options if not isinstance(o, Threshold)]
        """Nothing but a header: what it says of a packet holds for the flow."""
        self.ip_only = self.about_flow and not negated
        of_packets = (
            protocol.packets
            or flow.stream is False
            or any(isinstance(option, Dsize | Flags) for option in options)
        )
        self.in_stream = not self.about_flow and (
            self.stream_only or (bool(matchers) and not of_packets)
        )
        """Of TCP; elsewhere there are no streams."""
        anchored = any(content.anchored for content in contents)
        self.in_packets = self.about_flow or (
            not self.stream_only and (not self.in_stream or anchored)
        )

    def confirms(self, subject: Subject) -> bool:
        """Whether everything but the header holds."""
        for condition in self._conditions:
            if not condition(subject):
                return False
        if self._payload is None:
            return True
        subject.budget = BUDGET
        return self._payload.found_in(subject)

    def refuted(self, subject: Subject) -> bool:
        """It does not match, and its parts that were found now cannot make it match later."""
        if self._payload is None:
            return False
        subject.budget = BUDGET
        return self._payload.refuted_by(subject)


def fast_pattern(contents: Sequence[Content]) -> bytes | None:
    """The bytes whose presence makes a rule worth trying: the marked ones, else the longest."""
    wanted = [content for content in contents if not content.negated]
    if not wanted:
        return None
    best = next((c for c in wanted if c.fast_pattern), None)
    if best is None:
        best = max(wanted, key=lambda c: (len(c.pattern), len(set(c.pattern))))
    pattern = best.pattern
    if best.chop is not None:
        at, size = best.chop
        pattern = pattern[at : at + size]
    return pattern.lower()
