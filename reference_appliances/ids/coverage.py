"""What of a rule set can be used, and which keywords are in the way of the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from reference_appliances.ids.problems import RuleError
from reference_appliances.ids.rule_files import Reading


class Coverage(NamedTuple):
    """Counts of a rule set. A rule that cannot be used counts for the first reason found in it."""

    usable: int
    unsupported: Counter[str]
    """By keyword."""
    mistakes: list[RuleError]

    @property
    def total(self) -> int:
        """All rules, usable or not."""
        return self.usable + self.unsupported.total() + len(self.mistakes)

    @property
    def share(self) -> str:
        """The usable part in per cent."""
        return f"{100 * self.usable / self.total:.1f} %" if self.total else "100 %"


def coverage(reading: Reading) -> Coverage:
    """Count what was read."""
    unsupported = Counter(p.keyword for p in reading.problems if p.unsupported)
    mistakes = [problem for problem in reading.problems if not problem.unsupported]
    return Coverage(len(reading.ruleset.rules), unsupported, mistakes)


def rows(found: Coverage) -> Sequence[tuple[str, str, str]]:
    """A table: how many rules each unsupported keyword keeps from being used, the most first."""
    counted = sorted(found.unsupported.items(), key=lambda item: (-item[1], item[0]))
    body = [(f"{n:,}", f"{100 * n / found.total:.1f} %", name) for name, n in counted]
    return [("rules", "share", "not supported"), *body]
