"""Tables as a terminal shows them, and as a pipe gets them."""

from __future__ import annotations

import io
import sys

import pytest

from appliance_sdk.cli.text import table

ROWS = [("verdict", "reason"), ("allow", "because the policy of the house says so")]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_one_line_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    assert table(ROWS) == ["verdict  reason", "allow    because the policy of the house says so"]


@pytest.mark.parametrize(
    ("columns", "lines"),
    [
        (80, ["verdict  reason", "allow    because the policy of the house says so"]),
        (
            40,
            [
                "verdict  reason",
                "allow    because the policy of the house",
                "         says so",
            ],
        ),
        (
            24,
            [
                "verdict  reason",
                "allow",
                "         because the",
                "         policy of the",
                "         house says so",
            ],
        ),
    ],
)
def test_a_terminal_gets_the_rest_below(
    monkeypatch: pytest.MonkeyPatch, columns: int, lines: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert table(ROWS) == lines
