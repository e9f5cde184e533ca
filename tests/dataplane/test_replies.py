"""Sending, whatever the kernel answers."""

from __future__ import annotations

import errno
from collections import Counter
from typing import cast

import pytest

from appliance_sdk.dataplane.mmsg import Memory, SendBatch
from appliance_sdk.dataplane.replies import Replies, Scratch, Sender, error_name


class Kernel:
    """A batch whose sends end as scripted: a number sent, or minus an errno; then all goes."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.calls: list[tuple[int, int]] = []
        self.taken: list[int] = []

    def send(self, _descriptor: int, first: int, count: int) -> int:
        self.calls.append((first, count))
        answer = self.answers.pop(0) if self.answers else count
        if answer > 0:
            self.taken += range(first, first + answer)
        return answer


class Waiting:
    """Stands for poll(2): says what it is told to, and how often it was asked."""

    def __init__(self, writable: bool, takes_s: float = 0.0) -> None:
        self.writable = writable
        self.takes_s = takes_s
        self.now = 100.0
        self.waits: list[float] = []

    def clock(self) -> float:
        return self.now

    def wait(self, _descriptor: int, timeout_s: float) -> bool:
        self.waits.append(timeout_s)
        self.now += self.takes_s
        return self.writable


def _sender(kernel: Kernel, waiting: Waiting | None = None) -> Sender:
    waiting = waiting or Waiting(True)
    return Sender(
        cast(SendBatch, kernel),
        Counter(),
        wait_s=0.05,
        clock=waiting.clock,
        wait_writable=waiting.wait,
    )


def test_a_partial_send_goes_on_where_it_stopped() -> None:
    kernel = Kernel(3, 1)
    sender = _sender(kernel)
    sender.send(9, 10)
    assert kernel.taken == list(range(10))
    assert kernel.calls == [(0, 10), (3, 7), (4, 6)]
    assert sender.sent == 10
    assert not sender.errors


@pytest.mark.parametrize(
    "number", [errno.EMSGSIZE, errno.ENOBUFS, errno.EPERM, errno.ECONNREFUSED, errno.EINVAL]
)
def test_one_that_cannot_be_sent_does_not_stop_the_others(number: int) -> None:
    kernel = Kernel(2, -number)
    sender = _sender(kernel)
    sender.send(9, 5)
    assert kernel.taken == [0, 1, 3, 4]
    assert sender.errors == {error_name(number): 1}
    assert sender.sent == 4


def test_nothing_sent_and_no_error_is_not_tried_for_ever() -> None:
    kernel = Kernel(0, 0)
    sender = _sender(kernel)
    sender.send(9, 2)
    assert sender.errors.total() == 2


def test_an_interrupted_send_is_repeated() -> None:
    kernel = Kernel(-errno.EINTR)
    sender = _sender(kernel)
    sender.send(9, 2)
    assert kernel.taken == [0, 1]
    assert not sender.errors


def test_a_full_buffer_is_waited_for() -> None:
    kernel = Kernel(1, -errno.EAGAIN)
    waiting = Waiting(True)
    sender = _sender(kernel, waiting)
    sender.send(9, 3)
    assert kernel.taken == [0, 1, 2]
    assert waiting.waits == [0.05]


def test_a_buffer_that_stays_full_costs_the_rest_of_the_packets() -> None:
    kernel = Kernel(1, -errno.EAGAIN)
    sender = _sender(kernel, Waiting(False, takes_s=0.05))
    sender.send(9, 4)
    assert kernel.taken == [0]
    assert sender.errors == {"EAGAIN": 3}


def test_one_flush_waits_no_longer_than_allowed_over_all_its_sockets() -> None:
    waiting = Waiting(False, takes_s=0.06)
    sender = _sender(Kernel(*[-errno.EAGAIN] * 4), waiting)
    for _ in range(3):
        sender.send(9, 1)
    assert waiting.waits == [0.05]
    sender.rested()
    sender.send(9, 1)
    assert waiting.waits == [0.05, 0.05]
    assert sender.errors == {"EAGAIN": 4}


def test_a_socket_that_is_writable_and_takes_nothing_ends_too() -> None:
    waiting = Waiting(True, takes_s=0.0)  # its clock stands still
    sender = _sender(Kernel(*[-errno.EAGAIN] * 1000), waiting)
    sender.send(9, 2)
    assert sender.errors == {"EAGAIN": 2}
    assert len(waiting.waits) <= 51


class Recorder:
    """Replies that keep what they were given, as it was at the flush."""

    def __init__(self) -> None:
        self.added: list[tuple[int, int]] = []
        self.flushed: list[int] = []

    unbindable_ports = 0

    def add(self, _peer: bytes, _local: bytes, _room: Memory, offset: int, length: int) -> None:
        self.added.append((offset, length))

    def flush(self) -> None:
        self.flushed.append(len(self.added))

    def close(self) -> None:
        self.added.clear()


def test_what_does_not_fit_into_the_scratch_is_sent_first() -> None:
    replies: Replies = (recorder := Recorder())
    scratch = Scratch(replies, Counter())
    for _ in range(9):
        scratch.add(b"peer..", b"here", bytes(60_000))
    assert recorder.flushed == [4, 8]
    assert [offset // 60_000 for offset, _length in recorder.added] == [0, 1, 2, 3, 0, 1, 2, 3, 0]


def test_what_no_datagram_can_hold_is_counted() -> None:
    errors: Counter[str] = Counter()
    recorder = Recorder()
    Scratch(recorder, errors).add(b"peer..", b"here", bytes(65_508))
    assert errors == {"EMSGSIZE": 1}
    assert not recorder.added


def test_errors_have_names() -> None:
    assert error_name(errno.ENOBUFS) == "ENOBUFS"
    assert error_name(99_999) == "E99999"
