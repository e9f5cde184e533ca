"""An event loop for what plugins wait for, run between batches, and only while somebody waits."""

from __future__ import annotations

import asyncio
import heapq
import inspect
import itertools
import math
import selectors
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any, TypeVarTuple, Unpack

Ts = TypeVarTuple("Ts")

_TURNS = 64
"""How often what is done may lead to more, before packets have their turn."""
_PAUSE_S = 0.001
"""How long what leads to more for ever is left alone after that."""


class TaskLoop:
    """Runs awaitables; their time is `clock()`, so that in a test it need not be the real one.

    Nothing happens but in `run` and `pump`. Make it in the process that uses it.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._loop: _Loop | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None
        self.busy = False
        """Somebody waits."""
        self._pumped = 0
        """Calls that were asked for when all that can go on had gone on."""
        self._pause_until = -math.inf

    def fileno(self) -> int:
        """What becomes readable when a socket or a thread of a task has something."""
        return self._made().descriptor

    def next_deadline(self) -> float:
        """When a task wants to go on by itself, math.inf if none does."""
        loop = self._loop
        if loop is None or not self._tasks:
            return math.inf
        if loop.called != self._pumped:  # since the last `pump`, or because that took too long
            return max(self._clock(), self._pause_until)
        return loop.next_timer()

    def run(
        self, answer: Awaitable[Any], done: Callable[[Any, Exception | None], None]
    ) -> Callable[[], None]:
        """Begin to await it at the next `pump`; `done` gets its result or what it raised."""

        async def awaited() -> None:
            try:
                result = await answer
            except Exception as error:  # a vendor's code may raise anything; the engine counts it
                done(None, error)
            else:
                done(result, None)

        loop = self._made()
        task = loop.create_task(awaited())
        self._tasks.add(task)
        self.busy = True
        task.add_done_callback(self._ended)

        def cancel() -> None:
            task.cancel()
            # A task that was never begun would leave its coroutine behind unawaited.
            if (
                inspect.iscoroutine(answer)
                and inspect.getcoroutinestate(answer) == inspect.CORO_CREATED
            ):
                answer.close()

        return cancel

    def pump(self) -> None:
        """Let every task go on as far as it can without waiting, but not for ever."""
        loop = self._loop
        if loop is None or not self._tasks:
            return
        for _ in range(_TURNS):
            before = loop.called
            loop.call_soon(loop.stop)
            loop.run_forever()
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            if loop.called == before + 1:
                self._pumped = loop.called
                return
        self._pause_until = self._clock() + _PAUSE_S

    def close(self) -> None:
        """Give up every task, and the loop."""
        if self._loop is None:
            return
        for task in list(self._tasks):
            task.cancel()
        self.pump()
        self._loop.close()
        self._loop = None

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.busy = bool(self._tasks)
        if not task.cancelled():
            self._error = self._error or task.exception()

    def _made(self) -> _Loop:
        if self._loop is None:
            self._loop = _Loop(self._clock)
        return self._loop


class _Timer:
    """One call that is to come."""

    __slots__ = ("handle", "number", "over", "when")

    handle: asyncio.TimerHandle

    def __init__(self, when: float, number: int) -> None:
        self.when = when
        self.number = number
        self.over = False
        """It was called."""

    def __lt__(self, other: _Timer) -> bool:
        return (self.when, self.number) < (other.when, other.number)


class _Loop(asyncio.SelectorEventLoop):
    """asyncio's loop with a clock of ours, which tells how much it was asked to call, and when."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.called = 0
        self._timers: list[_Timer] = []
        self._numbers = itertools.count()
        selector = selectors.EpollSelector()
        self.descriptor = selector.fileno()
        super().__init__(selector)

    def time(self) -> float:
        return self._clock()

    def call_soon(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        self.called += 1
        return super().call_soon(callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        timer = _Timer(when, next(self._numbers))

        def call(*args: *Ts) -> None:
            timer.over = True
            callback(*args)

        timer.handle = super().call_at(when, call, *args, context=context)
        heapq.heappush(self._timers, timer)
        return timer.handle

    def next_timer(self) -> float:
        """When the next timer is due that was not cancelled and has not been called."""
        timers = self._timers
        while timers and (timers[0].over or timers[0].handle.cancelled()):
            heapq.heappop(timers)
        return timers[0].when if timers else math.inf
