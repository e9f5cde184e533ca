"""When a worker's garbage is collected: never all of it while packets come."""

from __future__ import annotations

import gc

_YOUNG = 2000
"""New objects after which the collector looks at those alone: well under a millisecond."""
_NEVER = 1 << 30
_EVERY_S = 60.0
_MOST_FLOWS = 10_000


class Collector:
    """Python's collector under this policy, from now on in this process.

    A full collection looks at everything that lives, and would stop a worker with a million flows
    for a second. What the engine makes has no circles once a flow has ended; only young objects
    are looked at while packets come. Circles that a plugin makes and that grow old are collected
    when nothing comes and few flows live.
    """

    def __init__(self, now: float) -> None:
        gc.set_threshold(_YOUNG, _NEVER, _NEVER)
        self._due = now + _EVERY_S

    def idle(self, now: float, flows: int) -> None:
        """Nothing has come for a while, and so many flows live."""
        if now >= self._due and flows < _MOST_FLOWS:
            gc.collect()
            self._due = now + _EVERY_S
