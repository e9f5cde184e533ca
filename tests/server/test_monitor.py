"""How the workers' beats become a health state."""

from __future__ import annotations

from typing import Any

from appliance_sdk.server.monitor import _SUMMED, Monitor


def beat(received: int = 0, waiting: int = 0, pid: int = 1, **more: Any) -> dict[str, Any]:
    numbers = dict.fromkeys(_SUMMED, 0)
    names: dict[str, Any] = {
        "dropped": {},
        "send_errors": {},
        "metrics": {},
        "plugin_errors": {},
        "degraded": {},
    }
    own = {"worker": 0, "pid": pid, "received": received, "waiting_bytes": waiting}
    return {"receive_buffer_bytes": 1 << 20, **numbers, **names, **own, **more}


def test_starting_until_every_worker_has_spoken() -> None:
    monitor = Monitor(2, 2.0, 0.0)
    assert monitor.state(0.1).name == "starting"
    monitor.beat(beat(), 0.2)
    assert monitor.state(0.2).reasons == ("worker 1 is starting",)
    monitor.beat(beat(worker=1), 0.3)
    assert monitor.state(0.3).healthy


def test_a_worker_that_never_speaks_is_not_starting_for_ever() -> None:
    monitor = Monitor(1, 2.0, 0.0)
    assert monitor.state(60.0) == ("degraded", ("worker 0 has said nothing for 60.0 s",), False)


def test_silence_is_degraded_until_it_ends() -> None:
    monitor = Monitor(1, 2.0, 0.0)
    monitor.beat(beat(), 1.0)
    assert monitor.state(2.9).healthy
    state = monitor.state(3.1)
    assert (state.name, state.healthy) == ("degraded", False)
    assert "has said nothing for 2.1 s" in state.reasons[0]
    monitor.beat(beat(), 3.2)
    assert monitor.state(3.2).healthy


def test_silence_while_nobody_listened_is_none() -> None:
    monitor = Monitor(1, 2.0, 0.0)
    monitor.beat(beat(), 1.0)
    monitor.was_deaf(9.0)
    assert monitor.state(9.1).healthy
    assert monitor.hung_s(0, 10.0) == 1.0
    assert monitor.state(11.1).reasons == ("worker 0 has said nothing for 2.1 s",)


def test_a_worker_whose_beats_are_lost_speaks_by_its_events() -> None:
    monitor = Monitor(1, 2.0, 0.0)
    monitor.beat(beat(), 1.0)
    monitor.heard(0, 8.0)
    assert monitor.state(9.0).healthy
    assert monitor.hung_s(0, 9.0) == 1.0


def test_a_replacement_is_no_word_from_a_worker_but_gets_time_for_its_first() -> None:
    monitor = Monitor(1, 2.0, 0.0)
    monitor.beat(beat(), 1.0)
    monitor.restarted(0, 4.0)
    assert monitor.state(4.1).name == "degraded"
    assert monitor.hung_s(0, 4.5) == 0.5
    monitor.beat(beat(pid=2), 4.6)
    assert monitor.state(4.6).healthy


def test_packets_that_wait_and_none_that_is_taken_is_a_dead_data_path() -> None:
    monitor = Monitor(1, 2.0, 0.0)
    for tenth in range(40):
        now = tenth / 10
        monitor.beat(beat(received=7, waiting=500), now)
    assert monitor.state(4.0).reasons == ("packets wait at worker 0 and it takes none",)
    monitor.beat(beat(received=8, waiting=500), 4.1)
    assert monitor.state(4.1).healthy


def test_a_busy_worker_is_healthy_however_much_waits() -> None:
    monitor = Monitor(1, 2.0, 0.0)
    for tenth in range(100):
        monitor.beat(beat(received=tenth, waiting=9000), tenth / 10)
    assert monitor.state(10.0).healthy


def test_draining_outranks_everything() -> None:
    monitor = Monitor(1, 2.0, 0.0)
    monitor.draining = True
    assert monitor.state(100.0).name == "draining"


def test_a_plugin_that_cannot_work_is_named_and_counters_are_summed() -> None:
    monitor = Monitor(2, 2.0, 0.0)
    monitor.beat(beat(received=3, dropped={"origin": 1}, degraded={"feed": "too old"}), 1.0)
    monitor.beat(beat(worker=1, received=4, dropped={"origin": 2}), 1.0)
    assert monitor.state(1.0).reasons == ("plugin feed: too old",)
    details = monitor.details(1.0)
    assert details["counters"]["received"] == 7
    assert details["counters"]["dropped"] == {"origin": 3}
    assert [w["worker"] for w in details["workers"]] == [0, 1]
