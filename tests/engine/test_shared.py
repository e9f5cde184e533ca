"""Counters and values over the workers: exact with several writers, bounded, and whole."""

from __future__ import annotations

import mmap
import os
import random
import time
from collections.abc import Callable

import pytest

from appliance_sdk import Flow, Outcome, Plugin, PluginError, Verdict
from appliance_sdk.engine.shared import SharedLimits, SharedState, shared_bytes
from appliance_sdk.harness.process_tree import memory_bytes
from appliance_sdk.testing import Bench

WORKERS = 4
LIMITS = SharedLimits(counters=1024, values_bytes=64 * 1024)


def workers(limits: SharedLimits = LIMITS) -> list[SharedState]:
    memory = bytearray(shared_bytes(limits, WORKERS))
    return [SharedState(limits, memory, number, WORKERS) for number in range(WORKERS)]


def test_a_total_is_that_of_all_workers() -> None:
    states = workers()
    totals = [states[n % WORKERS].count("p z", b"key", 10, 2, 5.0) for n in range(8)]
    assert totals == [2, 4, 6, 8, 10, 12, 14, 16]


def test_memory_is_taken_when_something_is_put_there() -> None:
    kept = [SharedState(SharedLimits()) for _ in range(20)]
    before = memory_bytes([os.getpid()])
    kept += [SharedState(SharedLimits()) for _ in range(100)]
    assert memory_bytes([os.getpid()]) < before + 100 * shared_bytes(SharedLimits(), 1) / 4


def test_each_window_begins_at_nought() -> None:
    states = workers()
    assert states[0].count("p z", b"key", 10, 7, 9.9) == 7
    assert states[1].count("p z", b"key", 10, 1, 10.0) == 1
    assert states[0].count("p z", b"key", 10, 1, 10.1) == 2
    assert states[1].count("p z", b"key", 10, 1, 19.9) == 3


def test_keys_windows_plugins_and_zones_are_apart() -> None:
    state = workers()[0]
    for scope in ("p z", "p y", "q z"):
        for key in (b"a", b"b", b""):
            for window in (1.0, 60.0):
                assert state.count(scope, key, window, 1, 5.0) == 1


def test_more_counters_than_fit_cost_the_smallest_of_them() -> None:
    state = workers()[0]
    for _ in range(100):
        state.count("p z", b"attacker", 3600, 1, 5.0)
    for number in range(20_000):
        state.count("p z", b"%d" % number, 3600, 1, 5.0)
    assert state.counters.evicted > 15_000
    assert state.count("p z", b"attacker", 3600, 1, 5.0) == 101


def test_old_windows_make_room() -> None:
    state = workers()[0]
    for number in range(20_000):
        state.count("p z", b"%d" % number, 1, 1, float(number // 100))
    assert state.counters.evicted == 0


def _in_processes(job: Callable[[int, SharedState], None], limits: SharedLimits = LIMITS) -> None:
    """Run it in forked workers at the same time; an exception in one fails the test."""
    with mmap.mmap(-1, shared_bytes(limits, WORKERS)) as memory:
        children = []
        for number in range(WORKERS):
            pid = os.fork()
            if not pid:
                status = 1
                try:
                    job(number, SharedState(limits, memory, number, WORKERS))
                    status = 0
                finally:
                    os._exit(status)
            children.append(pid)
        statuses = [os.waitpid(pid, 0)[1] for pid in children]
        assert statuses == [0] * WORKERS


def test_four_processes_that_count_at_once_lose_nothing() -> None:
    def job(number: int, state: SharedState) -> None:
        for n in range(5000):
            state.count("p z", b"%d" % (n % 50), 1e9, 1, 5.0)
        # The one whose addition comes last sees everything.
        state.count("p z", b"done", 1e9, 1, 5.0)
        deadline = time.monotonic() + 60
        while state.count("p z", b"done", 1e9, 0, 5.0) < WORKERS:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        for key in range(50):
            assert state.count("p z", b"%d" % key, 1e9, 0, 5.0) == 100 * WORKERS

    _in_processes(job)


def test_a_total_never_goes_back_while_others_count() -> None:
    def job(number: int, state: SharedState) -> None:
        before = 0
        for _ in range(30_000):
            total = state.count("p z", b"key", 1e9, number % 2, 5.0)
            assert total >= before
            before = total

    _in_processes(job)


def test_what_is_not_whole_yet_is_read_when_it_is() -> None:
    memory = bytearray(shared_bytes(LIMITS, 2))
    one, other = (SharedState(LIMITS, memory, n, 2) for n in range(2))
    one.values.put(("p z", b"k"), b"first", 99.0, 5.0)
    at = memory.index(b"first")
    memory[at : at + 5] = bytes(5)  # a processor may show the end of the ring before what is in it
    assert other.values.get(("p z", b"k"), 6.0) is None
    memory[at : at + 5] = b"first"
    assert other.values.get(("p z", b"k"), 6.0) == b"first"
    assert other.values.missed == 0


def test_a_value_is_there_for_all_until_its_time_is_over() -> None:
    states = workers()
    states[1].values.put(("p z", b"host"), b"bad", 15.0, 5.0)
    assert [s.values.get(("p z", b"host"), 14.9) for s in states] == [b"bad"] * WORKERS
    assert [s.values.get(("p z", b"host"), 15.0) for s in states] == [None] * WORKERS
    assert states[0].values.get(("q z", b"host"), 6.0) is None


def test_the_newest_value_counts_whoever_put_it() -> None:
    states = workers()
    states[1].values.put(("p z", b"k"), b"new", 99.0, 6.0)
    states[0].values.put(("p z", b"k"), b"late", 99.0, 5.0)  # it was put earlier
    assert [s.values.get(("p z", b"k"), 7.0) for s in states] == [b"new"] * WORKERS


def test_a_worker_that_is_started_anew_finds_what_all_have_put_its_former_self_too() -> None:
    memory = bytearray(shared_bytes(LIMITS, 2))
    one, other = (SharedState(LIMITS, memory, n, 2) for n in range(2))
    one.values.put(("p z", b"mine"), b"1", 99.0, 5.0)
    other.values.put(("p z", b"theirs"), b"2", 99.0, 5.0)
    one.count("p z", b"n", 60, 3, 5.0)
    again = SharedState(LIMITS, memory, 0, 2)
    assert again.values.get(("p z", b"mine"), 6.0) == b"1"
    assert again.values.get(("p z", b"theirs"), 6.0) == b"2"
    assert again.count("p z", b"n", 60, 1, 6.0) == 4


def test_a_ring_that_comes_round_loses_the_oldest_and_says_so() -> None:
    states = workers()
    states[1].values.put(("p z", b"first"), b"x", 99.0, 5.0)
    assert states[0].values.get(("p z", b"first"), 5.0) == b"x"
    chance = random.Random(1)
    for number in range(3000):
        value = chance.randbytes(chance.randrange(200))
        assert states[1].values.put(("p z", b"%d" % number), value, 99.0, 5.0)
    assert states[0].values.get(("p z", b"2999"), 6.0) == value
    assert states[0].values.get(("p z", b"2900"), 6.0) is not None
    assert states[0].values.get(("p z", b"0"), 6.0) is None
    assert states[0].values.missed == 1


def test_what_is_larger_than_the_ring_is_refused() -> None:
    state = workers()[0]
    assert not state.values.put(("p z", b"k"), bytes(64 * 1024), 99.0, 5.0)
    assert state.values.put(("p z", b"k"), bytes(60 * 1024), 99.0, 5.0)
    assert state.values.put(("p z", b"k"), bytes(59 * 1024), 99.0, 5.0)


def test_four_processes_that_put_at_once_are_read_whole() -> None:
    def job(number: int, state: SharedState) -> None:
        # Rings of 64 kB come round hundreds of times: what is overwritten is read meanwhile.
        for n in range(5000):
            value = bytes([number]) * (n % 400 + 1)
            state.values.put(("p z", b"%d" % number), value, 1e9, float(n))
            for other in range(WORKERS):
                found = state.values.get(("p z", b"%d" % other), 5.0)
                assert found is None or set(found) == {other}
        state.count("p z", b"done", 1e9, 1, 5.0)
        deadline = time.monotonic() + 60
        while state.count("p z", b"done", 1e9, 0, 5.0) < WORKERS:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        # What was put before another worker said that it is done is there: no delay at all.
        last = 4999 % 400 + 1
        for other in range(WORKERS):
            assert state.values.get(("p z", b"%d" % other), 5.0) == bytes([other]) * last

    _in_processes(job)


def test_values_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance_sdk.engine.values.MOST_VALUES", 100)
    state = workers()[0]
    for number in range(500):
        state.values.put(("p z", b"%d" % number), b"", 99.0, 5.0)
    assert len(state.values) == 100


class Limit(Plugin):
    def flow_opened(self, flow: Flow) -> Outcome:
        if self.shared.count(b"new:" + flow.client_ip, window_s=1) > 3:
            return Verdict.DROP.because("too many new flows", rule="new-flow-rate")
        return Verdict.DONE


def test_a_plugin_limits_new_flows() -> None:
    bench = Bench(Limit)
    passed = [bench.udp("10.0.0.1", "10.0.0.2", 53).client_sends(b"x") for _ in range(5)]
    assert passed == [True, True, True, False, False]
    assert bench.udp("10.0.0.9", "10.0.0.2", 53).client_sends(b"x")
    bench.advance(1)
    assert bench.udp("10.0.0.1", "10.0.0.2", 53).client_sends(b"x")


class Remembers(Plugin):
    def flow_opened(self, flow: Flow) -> Outcome:
        if self.shared.get(flow.client_ip):
            return Verdict.BLOCK
        if flow.server_port == 666:
            self.shared.put(flow.client_ip, b"seen", ttl_s=60)
        return Verdict.DONE


def test_a_plugin_remembers_for_a_while() -> None:
    bench = Bench(Remembers)
    assert bench.udp("10.0.0.1", "10.0.0.2", 666).client_sends(b"x")
    assert not bench.udp("10.0.0.1", "10.0.0.2", 53).client_sends(b"x")
    bench.advance(60)
    assert bench.udp("10.0.0.1", "10.0.0.2", 53).client_sends(b"x")


def test_nonsense_is_the_plugins_mistake() -> None:
    shared = Bench(Limit).plugin(Limit).shared
    with pytest.raises(PluginError, match=r"limit: count\(window_s=0, n=1\) makes no sense"):
        shared.count(b"k", window_s=0)
    with pytest.raises(PluginError, match="n=-1"):
        shared.count(b"k", window_s=1, n=-1)
    with pytest.raises(PluginError, match="5000000 bytes are too many to share"):
        shared.put(b"k", bytes(5_000_000), ttl_s=1)
