"""Whether the data path works, told from what the workers say, and when they last said it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from appliance_sdk.server.health import HealthState
from appliance_sdk.server.losses import Losses

Beat = dict[str, Any]
_SUMMED = (
    "received",
    "batches",
    "forwarded",
    "edited",
    "injected",
    "flows",
    "flows_opened",
    "flows_closed",
    "kernel_drops",
    "truncated",
    "unbindable_ports",
    "messages_lost",
    "handed_over",
    "shared_evicted",
    "shared_missed",
    "handover_lost",
)
_SUMMED_BY_NAME = ("dropped", "send_errors", "metrics", "plugin_errors")


class Monitor:
    """Takes the workers' beats and answers: how is the appliance?"""

    def __init__(self, workers: int, stalled_s: float, now: float) -> None:
        self._workers = workers
        self._stalled_s = stalled_s
        self._started = now
        self._beats: dict[int, Beat] = {}
        self._heard: dict[int, float] = {}
        self._deaf_until = now
        self._replaced: dict[int, float] = {}
        self._stuck: dict[int, tuple[int, float]] = {}
        self._losses = Losses()
        self.draining = False
        self.reloads: dict[str, Any] = {"done": 0, "failed": 0, "reasons": ()}
        """See `ReloadStatus`."""

    def beat(self, beat: Beat, now: float) -> list[str]:
        """A worker has spoken: what it has begun to lose, a sentence each."""
        worker, received = beat["worker"], beat["received"]
        before = self._beats.get(worker)
        same = before is not None and before["pid"] == beat["pid"]
        moved = before is None or not same or before["received"] != received
        if moved or not beat["waiting_bytes"]:
            self._stuck.pop(worker, None)
        else:
            self._stuck.setdefault(worker, (received, now))
        self._beats[worker] = beat
        self.heard(worker, now)
        return self._losses.beat(before if same else None, beat, now)

    def heard(self, worker: int, now: float) -> None:
        """A worker has said anything: beats may be lost where its channel is full of events."""
        self._heard[worker] = now

    def was_deaf(self, now: float) -> None:
        """Nobody listened until now: that nothing was heard says nothing about the workers."""
        self._deaf_until = now

    def silent_s(self, worker: int, now: float) -> float:
        """For how long nothing was said by a worker or those that it replaced."""
        return now - max(self._heard.get(worker, self._started), self._deaf_until)

    def hung_s(self, worker: int, now: float) -> float:
        """How long the worker that runs now has said nothing."""
        return min(self.silent_s(worker, now), now - self._replaced.get(worker, self._started))

    def restarted(self, worker: int, now: float) -> None:
        """A worker was replaced. That is no word from it: it may be the next to die at once."""
        self._replaced[worker] = now

    def state(self, now: float) -> HealthState:
        """What health checks are told.

        Losses alone leave it healthy: what takes all it can is worth more than no target, and GWLB
        would only move the flood to the next one. So does what it could not load anew: with rules
        of yesterday it is worth more than none, and the other targets have the same trouble.
        """
        if self.draining:
            return HealthState("draining", ("the appliance is being stopped",))
        waiting_for = [w for w in range(self._workers) if w not in self._beats]
        if waiting_for and now - self._started < 10 * self._stalled_s:
            return HealthState("starting", tuple(f"worker {w} is starting" for w in waiting_for))
        reasons = []
        for worker in range(self._workers):
            silent = self.silent_s(worker, now)
            if silent > self._stalled_s:
                reasons.append(f"worker {worker} has said nothing for {silent:.1f} s")
            _, since = self._stuck.get(worker, (0, now))
            if now - since > self._stalled_s:
                reasons.append(f"packets wait at worker {worker} and it takes none")
            for plugin, reason in self._beats.get(worker, {}).get("degraded", {}).items():
                reasons.append(f"plugin {plugin}: {reason}")
        losses = self._losses.reasons(now)
        lesser = [*self.reloads["reasons"], *losses]
        if reasons or lesser:
            all_of_them = tuple(dict.fromkeys([*reasons, *lesser]))
            return HealthState("degraded", all_of_them, healthy=not reasons)
        return HealthState("ready", healthy=True)

    def details(self, now: float) -> dict[str, Any]:
        """Everything that `?verbose` shows."""
        state = self.state(now)
        return {
            "state": state.name,
            "reasons": list(state.reasons),
            "uptime_s": round(now - self._started, 1),
            "workers": [
                {
                    "worker": worker,
                    "pid": beat["pid"],
                    "heard_s_ago": round(now - self._heard[worker], 2),
                    "received": beat["received"],
                    "flows": beat["flows"],
                    "waiting_bytes": beat["waiting_bytes"],
                    "receive_buffer_bytes": beat["receive_buffer_bytes"],
                }
                for worker, beat in sorted(self._beats.items())
            ],
            "counters": self.counters(),
        }

    def counters(self) -> dict[str, Any]:
        """The workers' counters, summed. A worker that was replaced began again at 0."""
        total: dict[str, Any] = dict.fromkeys(_SUMMED, 0)
        for beat in self._beats.values():
            for name in _SUMMED:
                total[name] += beat[name]
        for name in _SUMMED_BY_NAME:
            summed: Counter[str] = Counter()
            for beat in self._beats.values():
                summed.update(beat[name])
            total[name] = dict(summed)
        total["loss_episodes"] = dict(self._losses.episodes)
        total["reloads"] = self.reloads["done"]
        total["reloads_failed"] = self.reloads["failed"]
        return total
