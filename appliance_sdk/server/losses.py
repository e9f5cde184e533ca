"""What is being lost right now: the workers' counters of losses, in episodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

SHOWN_S = 10.0
"""So long after the last loss an episode lasts: GWLB checks every 10 s by default, and a state that
came and went between two checks would never be seen. It also joins bursts to one episode."""

_REASONS = {
    "kernel_drops": "overload: {count:,} packets found the receive buffer of worker {worker} full",
    "handover_lost": "overload: {count:,} fragments of worker {worker} found another's inbox full",
    "messages_lost": "overload: {count:,} messages of worker {worker} were lost, events among them",
    "unbindable_ports": "worker {worker} cannot bind {count:,} source ports to answer from",
    "limits": "{count:,} answers of worker {worker} met a limit of the system, see send_errors",
}
_LIMITS = ("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM")


class _Episode(NamedTuple):
    lost: int
    until: float


class Losses:
    """Looks at each beat of a worker: has it lost anything since the one before?"""

    def __init__(self) -> None:
        self.episodes: Counter[str] = Counter()
        """How many there were since the start, by the counter that grew."""
        self._now: dict[tuple[int, str], _Episode] = {}

    def beat(
        self, before: Mapping[str, Any] | None, beat: Mapping[str, Any], now: float
    ) -> list[str]:
        """Compare with what the same process said before: sentences of the episodes that began."""
        began = []
        worker = beat["worker"]
        for name, sentence in _REASONS.items():
            count = _lost(name, beat) - (_lost(name, before) if before is not None else 0)
            if count <= 0:
                continue
            episode = self._now.get((worker, name))
            if episode is None or episode.until <= now:
                episode = _Episode(0, now)
                self.episodes[name] += 1
                began.append(sentence.format(worker=worker, count=count))
            self._now[worker, name] = _Episode(episode.lost + count, now + SHOWN_S)
        return began

    def reasons(self, now: float) -> list[str]:
        """What is lost now or was a moment ago, a sentence a worker and kind."""
        return [
            _REASONS[name].format(worker=worker, count=episode.lost)
            for (worker, name), episode in sorted(self._now.items())
            if now < episode.until
        ]


def _lost(name: str, beat: Mapping[str, Any]) -> int:
    if name == "limits":
        return sum(beat["send_errors"].get(error, 0) for error in _LIMITS)
    return int(beat[name])
