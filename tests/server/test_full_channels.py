"""A process that does not listen: what is said to it is counted when lost, and nobody waits."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable

from .conftest import Running
from .test_workers import ask, flow

Launch = Callable[..., Running]
STALLED_S = 0.4


def supervisor(running: Running) -> int:
    workers = {worker["pid"] for worker in running.details()["workers"]}
    (pid,) = set(running.children()) - workers
    return pid


def test_a_supervisor_that_stands_still_costs_events_and_no_packet(launch: Launch) -> None:
    running = launch(top="workers = 2", settings=f"stalled_s = {STALLED_S}\n").ready()
    running.until(lambda: len(running.details()["workers"]) == 2, "all workers")
    pids = [worker["pid"] for worker in running.details()["workers"]]
    stopped = [running.process.pid, supervisor(running)]  # the one would replace the other
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    # 8 kB of an event each: each worker's channel holds some 9 MiB.
    assert not ask(running, [flow(number, port=7011) for number in range(5000)])
    while time.monotonic() - began < 4 * STALLED_S:  # longer than a worker may be silent
        assert not ask(running, [flow(number) for number in range(100)])
    for pid in reversed(stopped):
        os.kill(pid, signal.SIGCONT)
    running.until(lambda: running.details()["counters"]["messages_lost"], "counted")
    assert running.health() == (200, "degraded\n")
    assert any("messages of worker" in reason for reason in running.details()["reasons"])
    assert not ask(running, [flow(number) for number in range(100)])
    alerts = running.until(
        lambda: [e for e in running.events() if e["event_type"] == "alert"], "those that were kept"
    )
    assert 0 < len(alerts) < 5000
    running.until(lambda: running.details()["counters"]["flows_opened"] >= 5000, "all counted")
    assert [worker["pid"] for worker in running.details()["workers"]] == pids
    assert not running.logged("worker.hung")


def test_a_worker_that_does_not_take_new_rules_is_named(launch: Launch) -> None:
    running = launch(top="workers = 2", settings="stalled_s = 60\n").ready()
    running.until(lambda: len(running.details()["workers"]) == 2, "all workers")
    stopped = running.details()["workers"][1]["pid"]
    os.kill(stopped, signal.SIGSTOP)
    large = "65000 " * 3_000_000  # more than a channel holds beside what it has

    def load(rules: str, reloaded: int) -> None:
        running.rules.write_text(rules)
        running.process.send_signal(signal.SIGHUP)
        running.until(lambda: len(running.logged("appliance.reloaded")) == reloaded, "reloaded")

    load(large + "23", 1)
    load(large + "25", 2)
    (failed,) = running.logged("appliance.reload_failed")
    assert "worker 1 does not listen" in failed["error"]
    os.kill(stopped, signal.SIGCONT)
    fresh = itertools.count(1000)

    def some_are_blocked() -> bool:
        return bool(ask(running, [flow(next(fresh), port=23) for _ in range(20)], patience_s=0.2))

    running.until(some_are_blocked, "it has taken the first, and the other one the second")
    load("25", 4)
    assert len(ask(running, [flow(n, port=25) for n in range(20)], patience_s=0.5)) == 20
    assert not ask(running, [flow(n, port=23) for n in range(20)])
