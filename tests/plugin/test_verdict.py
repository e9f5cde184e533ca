from __future__ import annotations

import pytest

from appliance_sdk.plugin.verdict import Verdict


def test_verdicts_compare_by_action_alone() -> None:
    verdict = Verdict.BLOCK.because("three failed logins", rule=7)
    assert verdict == Verdict.BLOCK
    assert verdict != Verdict.DROP
    assert (verdict.reason, verdict.rule) == ("three failed logins", "7")
    assert Verdict.BLOCK.reason == ""
    assert hash(verdict) == hash(Verdict.BLOCK)


def test_a_verdict_cannot_be_changed() -> None:
    with pytest.raises(AttributeError, match="immutable"):
        Verdict.DROP.reason = "x"


def test_reply_keeps_the_reason_and_because_keeps_the_reply() -> None:
    verdict = Verdict.DROP.because("sinkholed").reply(b"answer")
    assert verdict.payload == b"answer"
    assert verdict.because("again").payload == b"answer"


def test_only_drop_block_and_reject_are_terminal() -> None:
    assert [v.terminal for v in (Verdict.CONTINUE, Verdict.DONE)] == [False, False]
    assert all(v.terminal for v in (Verdict.DROP, Verdict.BLOCK, Verdict.REJECT))


def test_a_policy_word_is_a_verdict() -> None:
    assert Verdict.of("reject") == Verdict.REJECT
    assert Verdict.of("continue") == Verdict.CONTINUE
