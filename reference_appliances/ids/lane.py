"""One direction of one flow: which rules matched, and which may still."""

from __future__ import annotations

from reference_appliances.ids.compiled import CompiledRule
from reference_appliances.ids.detector import Detector, Matchers
from reference_appliances.ids.header import Ends
from reference_appliances.ids.option import Subject

LOOKBACK = 2560
"""Bytes of a stream that a match may reach back: Suricata's inspection chunk."""
MOST_ARMED = 256
"""Rules of a lane whose fast pattern is remembered; beyond it the look-back is searched again."""
MOST_MATCHED = 1024
"""Rules that a lane remembers as matched; of a flow that matches more only what is to be stopped or
passed still counts."""


class Lane:
    """Tries rules on what one end of a flow sends.

    A rule that counts once a flow is in `matched` from its first match on. A rule of several parts
    is `armed` while its fast pattern is within the look-back: its other parts may come yet.
    """

    __slots__ = ("_armed", "_ends", "_group", "_ip_only", "_packets", "_stream", "matched")

    def __init__(self, detector: Detector, ends: Ends, to_server: bool, matched: set[int]) -> None:
        self._ends = ends
        self._group = detector.group(ends.protocol, to_server)
        self._packets = self._group.packets.index.candidates(ends)
        self._stream = self._group.stream.index.candidates(ends)
        self._armed: dict[CompiledRule, int] | None = {}
        self._ip_only = bool(self._group.ip_only)
        self.matched = matched

    def first(self) -> list[CompiledRule]:
        """The rules about nothing but addresses; asked for with each packet, answered once."""
        if not self._ip_only:
            return []
        self._ip_only = False
        return self._new(self._group.ip_only.candidates(self._ends))

    @property
    def wants_packets(self) -> bool:
        """Whether any rule looks into single packets."""
        return bool(self._packets) or bool(self._group.packets.prefilter)

    def packet(self, subject: Subject, *, tracked: bool) -> list[CompiledRule]:
        """Rules that match a packet. `tracked`: its bytes are shown to `stream` besides.

        A rule about streams that looks at packets too counts once for both; where no stream is
        put together, it is tried on every packet.
        """
        found = self._try(subject, self._packets, self._group.packets)
        if tracked:
            once = [rule for rule in found if rule.in_stream]
            new = self._new(once)
            return [rule for rule in found if not rule.in_stream or rule in new]
        of_streams = self._try(subject, self._stream, self._group.stream)
        return found + [r for r in of_streams if not r.stream_only and r not in found]

    def stream(self, subject: Subject, fresh: int) -> list[CompiledRule]:
        """Rules that match now that `subject.data[fresh:]` has come."""
        matchers = self._group.stream
        found = [r for r in self._stream if r.id not in self.matched and r.confirms(subject)]
        if matchers.prefilter:
            found += self._with_pattern(subject, fresh, matchers)
        return self._new(found)

    def _with_pattern(self, subject: Subject, fresh: int, matchers: Matchers) -> list[CompiledRule]:
        armed = self._armed
        begin = 0 if armed is None else max(0, fresh - matchers.prefilter.longest + 1)
        hits = matchers.prefilter.scan(subject.lower[begin:])
        horizon = subject.base + len(subject.data) - LOOKBACK
        shift = subject.base + begin
        found = []
        for rule in {**hits, **(armed or {})}:
            if rule.id in self.matched or not rule.header.matches(self._ends):
                hits.pop(rule, None)
            elif rule.confirms(subject):
                found.append(rule)
                hits.pop(rule, None)
            elif armed is not None and rule.refuted(subject):
                armed.pop(rule, None)
                hits.pop(rule, None)
        if armed is not None:
            for rule in found:
                armed.pop(rule, None)
            for rule, at in hits.items():
                if rule.several:
                    armed[rule] = shift + at
            armed = {rule: at for rule, at in armed.items() if at >= horizon}
            self._armed = armed if len(armed) <= MOST_ARMED else None
        return found

    def _try(
        self, subject: Subject, plain: list[CompiledRule], matchers: Matchers
    ) -> list[CompiledRule]:
        found = [rule for rule in plain if rule.confirms(subject)]
        if matchers.prefilter and subject.data:
            for rule in matchers.prefilter.scan(subject.lower):
                if rule.header.matches(self._ends) and rule.confirms(subject):
                    found.append(rule)
        return found

    def _new(self, rules: list[CompiledRule]) -> list[CompiledRule]:
        """Those that have not matched yet; from now on they have."""
        new = [rule for rule in rules if rule.id not in self.matched]
        room = max(0, MOST_MATCHED - len(self.matched))
        self.matched.update(rule.id for rule in new[:room])
        return new[:room] + [rule for rule in new[room:] if rule.rule.action != "alert"]
