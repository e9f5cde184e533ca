"""A process that does not listen: what is said to it is counted when lost, and nobody waits."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable
from functools import partial

from .conftest import Running
from .test_workers import ask, flow

Launch = Callable[..., Running]
STALLED_S = 0.4
FRESH = itertools.count(1000)


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


def with_a_worker_that_does_not_listen(launch: Launch) -> tuple[Running, int]:
    """One of two workers stands still and was to take new rules twice."""
    running = launch(top="workers = 2", settings="stalled_s = 60\n").ready()
    running.until(lambda: len(running.details()["workers"]) == 2, "all workers")
    stopped = running.details()["workers"][1]["pid"]
    os.kill(stopped, signal.SIGSTOP)
    large = "65000 " * 3_000_000  # more than a channel holds beside what it has

    def taken(times: int) -> bool:
        return len(running.logged("appliance.reloaded")) == times

    for reloaded, port in enumerate((23, 25), 1):
        running.rules.write_text(f"{large} {port}")
        running.process.send_signal(signal.SIGHUP)
        running.until(partial(taken, reloaded), "taken by the other one")
    (late,) = running.logged("appliance.reload_late")
    assert late["worker"] == 1
    running.until(lambda: running.health() == (200, "degraded\n"), "said")
    assert running.details()["reasons"] == [
        "worker 1 does not listen: it has not got what was loaded anew"
    ]
    return running, stopped


def both_have_the_newest(running: Running) -> bool:
    fresh = [flow(next(FRESH), port=port) for port in (25, 23) for _ in range(20)]
    return ask(running, fresh, patience_s=0.5) == fresh[:20]


def test_a_worker_that_listens_again_gets_the_newest_rules(launch: Launch) -> None:
    running, stopped = with_a_worker_that_does_not_listen(launch)
    os.kill(stopped, signal.SIGCONT)
    running.until(lambda: both_have_the_newest(running), "taken by itself")
    running.until(lambda: running.health() == (200, "ready\n"), "ready again")
    assert running.details()["counters"]["reloads"] == 2
    assert not running.logged("appliance.reload_failed")


def test_who_takes_its_place_does_not_go_back_to_what_it_never_took(launch: Launch) -> None:
    running, stopped = with_a_worker_that_does_not_listen(launch)
    os.kill(stopped, signal.SIGKILL)
    running.until(lambda: running.health() == (200, "ready\n"), "replaced")
    running.until(lambda: both_have_the_newest(running), "begun with the newest")
    assert both_have_the_newest(running)
