"""What is wrong with a rule: file, line, sid, keyword, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence

from appliance_sdk import ConfigError

SHOWN = 20
"""Problems that an error message lists before it only counts."""


class RuleError(ConfigError):
    """A rule that cannot be used. `unsupported`: it is no mistake, we just cannot do it."""

    def __init__(
        self, message: str, *, keyword: str = "", hint: str = "", unsupported: bool = False
    ) -> None:
        super().__init__(message, key=keyword and f"`{keyword}`", hint=hint)
        self.keyword = keyword
        self.unsupported = unsupported
        self.sid = 0
        self.line = 0

    def at(self, path: str, line: int, sid: int) -> RuleError:
        """The same error, saying where."""
        placed = RuleError(
            self.message, keyword=self.keyword, hint=self.hint, unsupported=self.unsupported
        )
        placed.path, placed.line, placed.sid = path, line, sid
        where = f"{path}:{line}" + (f": sid {sid}" if sid else "")
        placed.args = (printable(f"{where}: {self}"),)
        return placed


def printable(text: str) -> str:
    """Text for people and events: bytes of a rule file that are no UTF-8 become question marks."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def refuse(problems: Sequence[RuleError]) -> ConfigError:
    """One error for all of them: each on a line of its own, up to a bound, and how many."""
    rules = "1 rule" if len(problems) == 1 else f"{len(problems):,} rules"
    lines = [f"{rules} cannot be used; to go on without, set skip_unsupported:"]
    lines += [f"  {problem}" for problem in problems[:SHOWN]]
    if len(problems) > SHOWN:
        lines.append(f"  and {len(problems) - SHOWN:,} more: `appliance ids check` counts them")
    return ConfigError("\n".join(lines))
