"""Sinks at work: a thread and a bounded queue each, so that nobody waits for a slow disk."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from appliance_sdk.plugin.events import Event
from appliance_sdk.plugin.sink import Sink

_BATCH = 512
_RETRY_S = 1.0


class SinkThread:
    """Feeds one sink. Events that find the queue full are counted in `lost`."""

    def __init__(self, sink: Sink, limit: int, log: Callable[..., None]) -> None:
        self._sink = sink
        self._limit = limit
        self._log = log
        self._queue: deque[Event] = deque()
        self._condition = threading.Condition()
        self._stopping = False
        self._failing = False
        self._lost_before = 0
        self.lost = 0
        self.written = 0
        self.name = type(sink).__name__
        self._thread = threading.Thread(target=self._run, name=f"sink-{self.name}", daemon=True)
        self._thread.start()

    def put(self, event: Event, *, surely: bool = False) -> None:
        """Queue an event; never waits. `surely`: also if the queue is full."""
        with self._condition:
            if len(self._queue) >= self._limit and not surely:
                self.lost += 1
                return
            self._queue.append(event)
            self._condition.notify()

    def finish(self) -> None:
        """Write what is queued, close the sink, and end; does not wait for that."""
        with self._condition:
            self._stopping = True
            self._condition.notify()

    def stop(self, timeout_s: float) -> int:
        """Finish, as far as that is done in time: how many events were not written."""
        self.finish()
        self._thread.join(timeout_s)
        with self._condition:
            return len(self._queue)

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._queue and not self._stopping:
                    self._condition.wait()
                batch = [self._queue[i] for i in range(min(len(self._queue), _BATCH))]
            if not batch:
                break
            if self._write(batch):
                with self._condition:
                    for _ in batch:
                        self._queue.popleft()
                self.written += len(batch)
            elif self._stopping:
                break
            else:
                with self._condition:
                    self._condition.wait_for(lambda: self._stopping, _RETRY_S)
        try:
            self._sink.close()
        except Exception as error:  # a full disk, or a vendor's sink
            self._log("sink.failed", sink=self.name, error=error)

    def _write(self, batch: list[Event]) -> bool:
        """Whether the batch is done with. One that a sink cannot digest is not offered again."""
        try:
            self._sink.write(batch)
        except OSError as error:
            if not self._failing:
                self._failing, self._lost_before = True, self.lost
                self._log("sink.failed", sink=self.name, error=error)
            return False
        except Exception as error:  # a vendor's sink may raise anything
            self._log("sink.failed", sink=self.name, error=error)
            self.lost += len(batch)
            return True
        if self._failing:
            self._failing = False
            self._log("sink.recovered", sink=self.name, lost=self.lost - self._lost_before)
        return True
