"""The lab as root: what is sent is counted, every reply is checked, nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_lab import TINY, WRONG, why_no_namespaces
from wrong_appliance import FAULTS

from appliance_sdk.bench.contestants import Contestant
from appliance_sdk.bench.frames import Frames
from appliance_sdk.bench.generator import COMPILED, PYTHON
from appliance_sdk.bench.lab import Entry, Lab
from appliance_sdk.bench.load import Load
from appliance_sdk.bench.network import APPLIANCE_DEVICE
from appliance_sdk.bench.processors import family, process_time
from appliance_sdk.errors import HarnessError


@pytest.fixture(params=[COMPILED, PYTHON])
def both(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A lab with either generator."""
    reason = why_no_namespaces()
    if reason:
        pytest.skip(reason)
    compiled = request.param == COMPILED
    with Lab(TINY, compiled=compiled) as lab:
        try:
            assert lab.generator.kind == request.param
        except HarnessError as error:
            pytest.skip(str(error))
        yield lab


LOADS = [
    Load(flows=20, packets=400, window=32, seconds=60, whole_every=10),
    Load(flows=20, size=64, packets=400, rate=4000, burst=4, seconds=60, whole_every=10),
    Load(flows=20, tcp=True, open_rounds=3, packets=400, window=32, seconds=60, whole_every=10),
    Load(flows=20, ipv6=True, size=1400, packets=400, window=32, seconds=60, whole_every=10),
    Load(flows=20, size=8500, one_way=True, packets=400, window=16, seconds=60, whole_every=10),
    Load(flows=0, tcp=True, open_rounds=0, packets=400, window=32, seconds=60, whole_every=10),
]


def all_come_back(lab: Lab, contestants: list[Contestant]) -> None:
    with lab.started(*contestants):
        for contestant in contestants:
            for load in LOADS:
                sent = lab.send(Entry(contestant.name, contestant, load))
                where = f"{contestant.name}, {load}: {sent}"
                assert sent.opened == load.open_rounds * load.flows, where
                assert (sent.sent, sent.answered, sent.wrong, sent.other) == (400, 400, 0, 0), where
                assert (sent.repeated, sent.reordered, sent.unread) == (0, 0, 0), where
                assert sent.whole == (sent.opened + 400) // 10, where
    assert lab.tally.result().targets[0].ok
    assert lab.tally.answered == lab.tally.whole * 10


def test_every_packet_comes_back_and_is_checked(lab: Lab) -> None:
    contestants: list[Contestant] = [
        lab.naive(),
        lab.appliance("stream", "Stream"),
        lab.appliance("unprivileged", "One", raw=False),
        lab.appliance("workers", "One", workers=2),
    ]
    contestants += [one for one in (lab.c_loop(), lab.hairpin()) if one is not None]
    all_come_back(lab, contestants)


def test_the_same_with_either_generator(both: Lab) -> None:
    all_come_back(both, [both.appliance("one", "One")])


@pytest.mark.parametrize("fault", [name for name in FAULTS if name != "none"])
def test_a_wrong_appliance_is_caught(lab: Lab, fault: str) -> None:
    wrong = lab.program(fault, str(WRONG), fault)
    load = Load(flows=20, open_rounds=0, packets=500, rate=2000, seconds=60, whole_every=5)
    with lab.started(wrong):
        sent = lab.send(Entry(fault, wrong, load))
    if fault == "silent":
        assert (sent.answered, sent.wrong, sent.lost) == (400, 0, 100)
        return
    assert sent.wrong + sent.repeated == 100, sent
    checker = lab.tally.result()
    assert not checker.targets[0].ok
    assert checker.rows[-1].remark.startswith(f"{fault}: ")


def test_the_same_without_a_fault_is_right(lab: Lab) -> None:
    right = lab.program("right", str(WRONG), "none")
    load = Load(flows=20, open_rounds=0, packets=500, window=8, seconds=60, whole_every=5)
    with lab.started(right):
        sent = lab.send(Entry("right", right, load))
    assert (sent.answered, sent.wrong, sent.repeated) == (500, 0, 0)
    assert lab.tally.result().targets[0].ok


def test_the_frames_on_the_wire_are_those_that_the_checkers_know(both: Lab) -> None:
    right = both.program("right", str(WRONG), "none")
    load = Load(flows=3, size=100, open_rounds=0, packets=12, window=12, seconds=60)
    with both.network.appliances.entered():
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
    with wire, both.started(right):
        wire.bind((APPLIANCE_DEVICE, 0x0800))
        wire.settimeout(20)
        both.send(Entry("right", right, load))
        frames = Frames(load, right.address)
        for number in range(load.packets):
            seen, address = wire.recvfrom(65536)
            while address[2] == 4:  # PACKET_OUTGOING: a reply
                seen, address = wire.recvfrom(65536)
            mark = seen[frames.mark_at + 8 : frames.mark_at + 16]
            assert seen == frames.frame(number, int.from_bytes(mark, "big"))


def test_an_appliance_that_does_not_start_says_why(lab: Lab) -> None:
    broken = lab.appliance("broken", "NoSuchPlugin")
    with pytest.raises(HarnessError, match=r"broken ended: .*NoSuchPlugin"), lab.started(broken):
        pass
    assert list(broken.pids()) == []


def test_processor_time_is_that_of_the_whole_family(lab: Lab) -> None:
    appliance = lab.appliance("two", "One", workers=2)
    with lab.started(appliance):
        pids = appliance.pids()
        assert len(pids) == 4  # launcher, supervisor, workers
        before = sum(map(process_time, pids))
        load = Load(flows=20, packets=3000, window=64, seconds=60)
        sent = lab.send(Entry("two", appliance, load))
        assert 0 < sent.process_s <= sum(map(process_time, pids)) - before
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids[:1])


def test_the_appliances_core_receives_in_a_thread_while_it_is_asked_for(lab: Lab) -> None:
    naive = lab.naive()
    entry = Entry("naive", naive, Load(flows=20, packets=2000, window=8, seconds=60))
    before = receiving_threads()
    with lab.started(naive):
        with contextlib.ExitStack() as receiving:
            try:
                receiving.enter_context(lab.network.received_by_thread(lab.cores.of(1)))
            except HarnessError as error:
                pytest.skip(str(error))
            (thread,) = receiving_threads() - before
            assert os.sched_getaffinity(thread) == set(lab.cores.of(1))
            began = scheduled(thread)
            assert lab.send(entry).answered == 2000
            assert scheduled(thread) > began
        assert receiving_threads() == before
        assert lab.send(entry).answered == 2000


def receiving_threads() -> set[int]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            if path.read_text().startswith(f"napi/{APPLIANCE_DEVICE}"):
                found.add(int(path.parent.name))
    return found


def scheduled(thread: int) -> int:
    """Nanoseconds that a thread has run."""
    return int(Path(f"/proc/{thread}/schedstat").read_text().split()[0])


def test_what_is_measured_goes_before_other_work_unless_it_shall_not(lab: Lab) -> None:
    usual = os.getpriority(os.PRIO_PROCESS, 0)

    def priorities() -> set[int]:
        naive = lab.naive()
        with lab.started(naive):
            return {os.getpriority(os.PRIO_PROCESS, pid) for pid in naive.pids()}

    with lab.usual_priority():
        assert priorities() == {usual}
    found = priorities()
    assert found == ({-20} if lab.network.can_prefer else {usual})


def test_loss_is_found(lab: Lab) -> None:
    silent, right = (lab.program(name, str(WRONG), name) for name in ("silent", "none"))
    entries = [Entry(one.name, one, Load(flows=20)) for one in (silent, right)]
    with lab.started(silent, right):
        for _ in range(5):  # a busy machine may lose packets too, but not again and again
            found = lab.search(entries, {"silent": 500.0, "none": 500.0})
            assert found["silent"] == 0
            if found["none"]:
                break
    assert found["none"] > 0


def test_a_generator_that_cannot_send_says_why(lab: Lab) -> None:
    with pytest.raises(HarnessError, match="the generator failed: --size 20"):
        lab.generator.start(lab.network, "10.200.1.1", Load(size=20)).finish()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_a_run_that_is_ended(lab: Lab, signum: int) -> None:
    command = [sys.executable, "-m", "appliance_sdk", "bench", "workers", "--quick"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while len(found := family(process.pid)) < 6 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(found) >= 6, "two appliances were to be started"
    process.send_signal(signum)
    assert process.wait(60) == (130 if signum == signal.SIGINT else -signum)
    deadline = time.monotonic() + 20
    while any(map(is_alive, found)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, found))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
