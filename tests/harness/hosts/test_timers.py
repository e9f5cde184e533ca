"""One deadline a key, earliest first, stale ones forgotten."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from appliance_sdk.harness.hosts.timers import Timers


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([0.0, 1.0, 2.0, 3.0, math.inf]))))
def test_like_a_dictionary_that_is_sorted(steps: list[tuple[int, float]]) -> None:
    timers: Timers[int] = Timers()
    model: dict[int, float] = {}
    for key, at in steps * 20:
        timers.set(key, at)
        model[key] = at
        model = {k: v for k, v in model.items() if v != math.inf}
        assert timers.next_deadline() == min(model.values(), default=math.inf)
        assert len(timers) == len(model)
        assert len(timers._heap) <= max(65, 4 * len(model) + 1)
    taken = []
    while (key_due := timers.take_due(2.0)) is not None:
        taken.append(model.pop(key_due))
    assert taken == sorted(taken)
    assert all(at > 2.0 for at in model.values())


def test_what_is_forgotten_and_set_again_takes_no_room() -> None:
    timers: Timers[str] = Timers()
    for _ in range(1000):
        timers.set("again", math.inf)
        timers.set("again", 1.0)
    assert len(timers._heap) <= 65
    assert [timers.take_due(1.0), timers.take_due(1.0)] == ["again", None]
