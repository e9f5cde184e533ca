"""What rules that match come to: which are reported, and what becomes of packet and flow."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

from appliance_sdk import Verdict
from reference_appliances.ids.compiled import CompiledRule


class Judgement(NamedTuple):
    """The rules to report, in order, and the verdict if there is one."""

    reported: list[CompiledRule]
    verdict: Verdict | None = None
    passed: bool = False
    """A `pass` rule ended it: no other rule counts, for the packet or (DONE) for the flow."""


NOTHING = Judgement([])


Weigh: TypeAlias = Callable[[CompiledRule], tuple[bool, bool]]
"""Asked of a rule with a threshold: does this match act, is it reported?"""


def _always(_: CompiledRule) -> tuple[bool, bool]:
    return True, True


def judge(
    matched: Iterable[CompiledRule], *, stream: bool, prevent: bool, weigh: Weigh = _always
) -> Judgement:
    """Put what matched at one packet in order, and decide.

    `stream`: they matched in the stream. Then, and if a rule is about nothing but who talks to
    whom, its action is for the flow, else for the packet. `prevent`: drop and reject mean what
    they say; else they only report.
    """
    reported: list[CompiledRule] = []
    verdict: Verdict | None = None
    for match in sorted(matched, key=lambda found: found.order):
        rule = match.rule
        acts, reports = weigh(match) if match.threshold is not None else (True, True)
        if not acts:
            continue
        whole_flow = stream or match.about_flow
        if rule.action == "pass":
            passed = Verdict.DONE if whole_flow else None
            return Judgement(reported, verdict or passed, passed=True)
        if reports and not rule.noalert:
            reported.append(match)
        if not prevent or rule.action == "alert" or verdict is not None:
            continue
        if rule.action == "reject":
            verdict = Verdict.REJECT
        else:
            verdict = Verdict.BLOCK if whole_flow else Verdict.DROP
        verdict = verdict.because(rule.message or f"rule {rule.sid}", rule=str(rule.sid))
    return Judgement(reported, verdict)
