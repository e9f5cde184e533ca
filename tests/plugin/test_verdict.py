from __future__ import annotations

import pytest

from appliance_sdk.plugin.verdict import MAX_REPLY_BYTES, Verdict


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


def test_a_verdict_that_makes_no_sense_is_refused_where_it_is_made() -> None:
    with pytest.raises(ValueError, match="block"):
        Verdict("block")  # type: ignore[arg-type]
    assert len(Verdict.DROP.reply(bytes(MAX_REPLY_BYTES)).payload or b"") == MAX_REPLY_BYTES
    with pytest.raises(ValueError, match="more than 8440"):
        Verdict.DROP.reply(bytes(MAX_REPLY_BYTES + 1))


def test_reason_and_rule_are_text_whatever_is_given() -> None:
    verdict = Verdict.BLOCK.because(ValueError("why"))  # type: ignore[arg-type]
    assert verdict.reason == "why", "an event that carries it must be fit for any sink"
