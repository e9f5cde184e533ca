"""Sending, whatever the kernel answers."""

from __future__ import annotations

import errno
from collections import Counter
from typing import cast

import pytest

from appliance_sdk.dataplane.mmsg import Messages
from appliance_sdk.dataplane.replies import Sender, error_name


class Kernel:
    """Messages whose sends end as scripted: a number sent, or minus an errno; then all goes."""

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


def _sender(waiting: Waiting | None = None) -> Sender:
    waiting = waiting or Waiting(True)
    return Sender(
        Counter(),
        wait_s=0.05,
        clock=waiting.clock,
        wait_writable=waiting.wait,
    )


def test_a_partial_send_goes_on_where_it_stopped() -> None:
    kernel = Kernel(3, 1)
    sender = _sender()
    sender.send(9, cast(Messages, kernel), 0, 10)
    assert kernel.taken == list(range(10))
    assert kernel.calls == [(0, 10), (3, 7), (4, 6)]
    assert sender.sent == 10
    assert not sender.errors


def test_a_part_of_the_messages_is_sent() -> None:
    kernel = Kernel(1, -errno.EPERM)
    sender = _sender()
    sender.send(9, cast(Messages, kernel), 5, 9)
    assert kernel.taken == [5, 7, 8]
    assert kernel.calls == [(5, 4), (6, 3), (7, 2)]


@pytest.mark.parametrize(
    "number", [errno.EMSGSIZE, errno.ENOBUFS, errno.EPERM, errno.ECONNREFUSED, errno.EINVAL]
)
def test_one_that_cannot_be_sent_does_not_stop_the_others(number: int) -> None:
    kernel = Kernel(2, -number)
    sender = _sender()
    sender.send(9, cast(Messages, kernel), 0, 5)
    assert kernel.taken == [0, 1, 3, 4]
    assert sender.errors == {error_name(number): 1}
    assert sender.sent == 4


def test_nothing_sent_and_no_error_is_not_tried_for_ever() -> None:
    kernel = Kernel(0, 0)
    sender = _sender()
    sender.send(9, cast(Messages, kernel), 0, 2)
    assert sender.errors.total() == 2


def test_an_interrupted_send_is_repeated() -> None:
    kernel = Kernel(-errno.EINTR)
    sender = _sender()
    sender.send(9, cast(Messages, kernel), 0, 2)
    assert kernel.taken == [0, 1]
    assert not sender.errors


def test_a_full_buffer_is_waited_for() -> None:
    kernel = Kernel(1, -errno.EAGAIN)
    waiting = Waiting(True)
    sender = _sender(waiting)
    sender.send(9, cast(Messages, kernel), 0, 3)
    assert kernel.taken == [0, 1, 2]
    assert waiting.waits == [0.05]


def test_a_buffer_that_stays_full_costs_the_rest_of_the_packets() -> None:
    kernel = Kernel(1, -errno.EAGAIN)
    sender = _sender(Waiting(False, takes_s=0.05))
    sender.send(9, cast(Messages, kernel), 0, 4)
    assert kernel.taken == [0]
    assert sender.errors == {"EAGAIN": 3}


def test_one_flush_waits_no_longer_than_allowed_over_all_its_sockets() -> None:
    waiting = Waiting(False, takes_s=0.06)
    kernel = Kernel(*[-errno.EAGAIN] * 4)
    sender = _sender(waiting)
    for _ in range(3):
        sender.send(9, cast(Messages, kernel), 0, 1)
    assert waiting.waits == [0.05]
    sender.rested()
    sender.send(9, cast(Messages, kernel), 0, 1)
    assert waiting.waits == [0.05, 0.05]
    assert sender.errors == {"EAGAIN": 4}


def test_a_socket_that_is_writable_and_takes_nothing_ends_too() -> None:
    waiting = Waiting(True, takes_s=0.0)  # its clock stands still
    kernel = Kernel(*[-errno.EAGAIN] * 1000)
    sender = _sender(waiting)
    sender.send(9, cast(Messages, kernel), 0, 2)
    assert sender.errors == {"EAGAIN": 2}
    assert len(waiting.waits) <= 51


def test_errors_have_names() -> None:
    assert error_name(errno.ENOBUFS) == "ENOBUFS"
    assert error_name(99_999) == "E99999"
