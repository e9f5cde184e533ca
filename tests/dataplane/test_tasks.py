"""The loop that runs what plugins wait for: when it wants to go on, by a clock of the test's."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from appliance_sdk.dataplane.tasks import TaskLoop


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tasks(clock: Clock) -> Iterator[TaskLoop]:
    made = TaskLoop(clock)
    yield made
    made.close()


@pytest.fixture
def done() -> list[Any]:
    return []


@pytest.fixture
def run(tasks: TaskLoop, done: list[Any]) -> Callable[[Any], Callable[[], None]]:
    return lambda answer: tasks.run(answer, lambda result, error: done.append(error or result))


def test_a_task_that_was_begun_wants_its_turn_at_once(
    clock: Clock, tasks: TaskLoop, run: Callable[[Any], object], done: list[Any]
) -> None:
    run(asyncio.sleep(0, "said"))
    assert tasks.busy
    assert tasks.next_deadline() == clock.now
    tasks.pump()
    assert done == ["said"]
    assert not tasks.busy
    assert tasks.next_deadline() == math.inf


def test_a_timer_is_waited_for_also_when_it_fell_due_meanwhile(
    clock: Clock, tasks: TaskLoop, run: Callable[[Any], object], done: list[Any]
) -> None:
    run(asyncio.sleep(5, "slept"))
    tasks.pump()
    assert tasks.next_deadline() == 1005.0
    clock.now = 1005.5
    assert tasks.next_deadline() == 1005.0
    tasks.pump()
    assert done == ["slept"]


def test_a_cancelled_timer_is_waited_for_by_nobody(
    tasks: TaskLoop, run: Callable[[Any], Callable[[], None]], done: list[Any]
) -> None:
    cancel = run(asyncio.sleep(5))
    run(asyncio.sleep(9))
    tasks.pump()
    cancel()
    tasks.pump()
    assert tasks.next_deadline() == 1009.0
    assert done == []


def test_what_is_cancelled_can_clean_up_or_was_never_begun(
    tasks: TaskLoop, run: Callable[[Any], Callable[[], None]], done: list[Any]
) -> None:
    cleaned = []

    async def waits() -> None:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            cleaned.append("up")
            raise

    begun = run(waits())
    tasks.pump()
    begun()
    never_begun = waits()
    run(never_begun)()
    tasks.pump()
    assert inspect.getcoroutinestate(never_begun) == inspect.CORO_CLOSED
    assert cleaned == ["up"]
    assert (done, tasks.busy) == ([], False)


def test_who_never_waits_is_left_alone_now_and_then(
    clock: Clock, tasks: TaskLoop, run: Callable[[Any], object]
) -> None:
    turns = 0

    async def never_waits() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    run(never_waits())
    tasks.pump()
    assert 10 < turns < 1000
    assert clock.now < tasks.next_deadline() < clock.now + 0.01
    clock.now += 0.01
    assert tasks.next_deadline() == clock.now
