"""Faults as they are typed on a command line."""

from __future__ import annotations

import pytest

from appliance_sdk.errors import ConfigError
from appliance_sdk.harness import Fault
from appliance_sdk.harness.fault_text import format_fault, parse_fault

FAULTS = [
    ("a-1:loss=10%", Fault(on="a-1", loss=0.1)),
    ("a-1:loss=0.1,delay=20ms", Fault(on="a-1", loss=0.1, delay_s=0.02)),
    (
        "a-1:delay=1.5s,jitter=.5s,direction=to",
        Fault(on="a-1", delay_s=1.5, jitter_s=0.5, direction="to"),
    ),
    ("client:duplicate=1,reorder=25%", Fault(on="client", duplicate=1, reorder=0.25)),
    ("a-1:corrupt=1%, truncate=2%", Fault(on="a-1", corrupt=0.01, truncate=0.02)),
    ("a-1:hang,after=1m,for=30", Fault(on="a-1", hang=True, after_s=60, for_s=30)),
    ("a-1:deaf", Fault(on="a-1", deaf=True)),
    ("a-1:slow=200ms", Fault(on="a-1", slow_s=0.2)),
    ("a-1:kill,after=250us", Fault(on="a-1", kill=True, after_s=0.00025)),
]


@pytest.mark.parametrize(("text", "fault"), FAULTS)
def test_a_line_is_a_fault_and_a_fault_is_a_line(text: str, fault: Fault) -> None:
    assert parse_fault(text) == fault
    assert parse_fault(format_fault(fault)) == fault


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("appliance-1", r"says no name and what goes wrong \(such as appliance-1:loss"),
        (":loss=1", "says no name"),
        ("a-1:", "says no name"),
        ("a-1:los=1", r"no fault 'los' \(did you mean `loss`\?\)"),
        ("a-1:loss", r"loss= is no rate \(such as 0.1 or 10%\)"),
        ("a-1:loss=-1", "loss=-1 is no rate"),
        ("a-1:delay=20 ms", r"delay=20 ms is no time \(such as 20ms or 1.5s\)"),
        ("a-1:delay=1e9s", "delay=1e9s is no time"),
        ("a-1:hang=yes", "hang stands alone"),
        ("a-1:loss=1,direction=up", "direction: invalid enum value 'up'"),
    ],
)
def test_a_line_that_is_no_fault_says_why(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        parse_fault(text)
    assert str(caught.value).startswith(f"{text}: ")
