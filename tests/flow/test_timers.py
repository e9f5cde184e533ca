from __future__ import annotations

import math

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


def test_moving_a_timer_often_does_not_grow_the_heap() -> None:
    timers: Timers[Target] = Timers()
    a = Target()
    for i in range(10_000):
        timers.set(a, float(i))
    assert len(timers._heap) < 200
    assert timers.due(1e9) is a
    assert timers.due(1e9) is None
