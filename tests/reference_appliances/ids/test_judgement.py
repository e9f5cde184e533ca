"""What several rules that match come to."""

from __future__ import annotations

import pytest

from appliance_sdk import Verdict
from reference_appliances.ids.classification import BUILT_IN
from reference_appliances.ids.detector import Detector
from reference_appliances.ids.groups import Groups
from reference_appliances.ids.judgement import Judgement, judge
from reference_appliances.ids.parser import parse_rule
from reference_appliances.ids.rule import RuleAction, Ruleset

ORDER: tuple[RuleAction, ...] = ("pass", "drop", "reject", "alert")


def judged(
    *heads: str,
    stream: bool = False,
    prevent: bool = True,
    order: tuple[RuleAction, ...] = ORDER,
) -> Judgement:
    """Of rules that all match, given by action and options, with sids from 1."""
    groups = Groups({})
    rules = []
    for sid, head in enumerate(heads, 1):
        action, _, body = head.partition(" ")
        text = f"{action} tcp any any -> any any ({body} sid:{sid};)"
        rules.append(parse_rule(text, groups, BUILT_IN, path="t", line=sid))
    detector = Detector(Ruleset(tuple(rules)), order)
    return judge(reversed(detector.rules), stream=stream, prevent=prevent)


PACKET = "flow:stateless;"


@pytest.mark.parametrize(
    ("rules", "stream", "reported", "verdict"),
    [
        (["alert", "alert"], False, [1, 2], None),
        (["alert priority:3;", "alert priority:1;"], False, [2, 1], None),
        (["alert", "drop"], False, [2, 1], Verdict.BLOCK),
        ([f"alert {PACKET}", f"drop {PACKET}"], False, [2, 1], Verdict.DROP),
        ([f"drop {PACKET}"], True, [1], Verdict.BLOCK),
        ([f"reject {PACKET}"], False, [1], Verdict.REJECT),
        ([f"reject {PACKET}", f"drop {PACKET}"], False, [2, 1], Verdict.DROP),
        (["drop", "pass"], False, [], Verdict.DONE),
        ([f"drop {PACKET}", f"pass {PACKET}"], False, [], None),
        ([f"drop {PACKET}", f"pass {PACKET}"], True, [], Verdict.DONE),
        (["drop noalert;"], False, [], Verdict.BLOCK),
    ],
)
def test_order_and_scope(
    rules: list[str], stream: bool, reported: list[int], verdict: Verdict | None
) -> None:
    found = judged(*rules, stream=stream)
    assert [match.rule.sid for match in found.reported] == reported
    assert found.verdict == verdict
    assert found.passed is any(rule.startswith("pass") for rule in rules)


def test_another_order() -> None:
    order: tuple[RuleAction, ...] = ("alert", "drop", "reject", "pass")
    found = judged("pass", "drop", "alert", order=order)
    assert [match.rule.sid for match in found.reported] == [3, 2]
    assert found.verdict == Verdict.BLOCK


def test_detection_only_reports() -> None:
    found = judged("drop", "reject", "alert", prevent=False)
    assert len(found.reported) == 3
    assert found.verdict is None


def test_a_verdict_says_which_rule_and_why() -> None:
    verdict = judged('drop msg:"no";').verdict
    assert verdict is not None
    assert (verdict.rule, verdict.reason) == ("1", "no")
