"""Finding a rule's contents and expressions in a buffer, each relative to the one before it."""

from __future__ import annotations

from collections.abc import Sequence

from reference_appliances.ids.option import PayloadMatcher, Subject


class Payload:
    """Everything that a rule wants from one buffer.

    A matcher that is not relative begins a chain; the relative ones behind it belong to it. Chains
    do not depend on each other, so going back to another match stays within one, as in Suricata.
    What must not be there at all is a matter of its own, and expressions come last.
    """

    __slots__ = ("_absent", "_chains")

    def __init__(self, matchers: Sequence[PayloadMatcher]) -> None:
        chains: list[list[PayloadMatcher]] = []
        absent: list[list[PayloadMatcher]] = []
        for matcher in matchers:
            if matcher.negated and not matcher.relative:
                absent.append([matcher])
            elif matcher.relative and chains:
                chains[-1].append(matcher)
            else:
                chains.append([matcher])
        self._chains = sorted(chains, key=_is_costly)
        self._absent = sorted(absent, key=_is_costly)

    def found_in(self, subject: Subject) -> bool:
        """Whether all of it is there. A rule that tries for too long counts as not matching."""
        return self._holds(self._chains, subject) and self._holds(self._absent, subject)

    def refuted_by(self, subject: Subject) -> bool:
        """Whether all that must be there is, but also what must not: no later bytes help."""
        return bool(self._absent) and self._holds(self._chains, subject)

    def _holds(self, chains: Sequence[Sequence[PayloadMatcher]], subject: Subject) -> bool:
        start = -subject.base
        return all(_chain(chain, 0, start, subject) for chain in chains)


def _is_costly(chain: Sequence[PayloadMatcher]) -> bool:
    return any(matcher.costly for matcher in chain)


def _chain(chain: Sequence[PayloadMatcher], index: int, position: int, subject: Subject) -> bool:
    if index == len(chain):
        return True
    matcher = chain[index]
    for end in matcher.ends(subject, position):
        subject.budget -= 1
        if matcher.negated or subject.budget < 0:
            return False
        if _chain(chain, index + 1, end, subject):
            return True
        if index + 1 < len(chain) and subject.budget < 0:
            return False
    return matcher.negated and _chain(chain, index + 1, position, subject)
