from __future__ import annotations

import math
import sys

from hypothesis import given
from hypothesis import strategies as st

from appliance_sdk.flow.timers import Timers


class Target:
    pass


def test_targets_come_up_in_order_of_time_once() -> None:
    timers: Timers[Target] = Timers()
    a, b = Target(), Target()
    timers.set(a, 2.0)
    timers.set(b, 1.0)
    assert timers.next_deadline() == 1.0
    assert timers.due(0.5) is None
    assert timers.due(5.0) is b
    assert timers.due(5.0) is a
    assert timers.due(5.0) is None
    assert timers.next_deadline() == math.inf


def test_setting_again_moves_the_deadline() -> None:
    timers: Timers[Target] = Timers()
    a = Target()
    timers.set(a, 1.0)
    timers.set(a, 3.0)
    assert timers.due(2.0) is None
    assert timers.deadline(a) == 3.0
    assert timers.due(3.0) is a
    assert len(timers) == 0


def test_a_cancelled_target_never_comes_up() -> None:
    timers: Timers[Target] = Timers()
    a = Target()
    timers.set(a, 1.0)
    timers.cancel(a)
    assert timers.due(9.0) is None


def test_a_target_that_is_cancelled_is_held_by_nothing() -> None:
    timers: Timers[Target] = Timers()
    targets = [Target() for _ in range(3)]
    alone = sys.getrefcount(targets[1])
    for target in targets:
        timers.set(target, 3600.0)
    timers.cancel(targets[1])
    held = sys.getrefcount(targets[1])
    assert held == alone
    assert len(timers._heap) == 2


def test_moving_a_timer_often_leaves_nothing_behind() -> None:
    timers: Timers[Target] = Timers()
    a, b = Target(), Target()
    timers.set(b, 50.0)
    for i in range(100):
        timers.set(a, float(i))
        assert len(timers._heap) == 2
    assert [timers.due(1e9), timers.due(1e9), timers.due(1e9)] == [b, a, None]


def test_targets_of_one_time_come_up_in_the_order_in_which_they_were_set() -> None:
    timers: Timers[Target] = Timers()
    targets = [Target() for _ in range(20)]
    for target in targets:
        timers.set(target, 1.0)
    timers.set(targets[0], 1.0)
    came = [timers.due(1.0) for _ in targets]
    assert came == [*targets[1:], targets[0]]


@given(st.lists(st.tuples(st.integers(0, 99), st.none() | st.integers(0, 99)), max_size=80))
def test_whatever_is_set_moved_and_cancelled_the_others_keep_their_order(
    steps: list[tuple[int, int | None]],
) -> None:
    timers: Timers[Target] = Timers()
    targets = [Target() for _ in range(100)]
    model: dict[Target, tuple[float, int]] = {}
    at_first = [(which, which * 37 % 50) for which in range(100)]
    for number, (which, deadline) in enumerate([*at_first, *steps]):
        target = targets[which]
        if deadline is None:
            timers.cancel(target)
            model.pop(target, None)
        else:
            timers.set(target, float(deadline))
            model[target] = (float(deadline), number)
        assert len(timers) == len(model)
        assert timers.next_deadline() == min(model.values(), default=(math.inf, 0))[0]
    came = [timers.due(50.0) for _ in targets]
    now = sorted((t for t in model if model[t][0] <= 50.0), key=lambda t: model[t])
    assert came == now + [None] * (len(targets) - len(now))


def test_no_dictionary_holds_more_than_a_small_part_of_many() -> None:
    timers: Timers[Target] = Timers()
    targets = [Target() for _ in range(6100)]
    for target in targets:
        timers.set(target, 1.0)
    assert max(len(shard) for shard in timers._shards) < 400
