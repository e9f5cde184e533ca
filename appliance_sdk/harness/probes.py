"""Health checks over real TCP and HTTP, many at once, without waiting for any."""

from __future__ import annotations

import errno
import select
import socket
from typing import NamedTuple

from appliance_sdk.harness.checks import FAILED, TIMED_OUT, WRONG_CODE, Probe
from appliance_sdk.harness.fleet import ProbeResult
from appliance_sdk.harness.settings import parse_matcher

_ANSWER_BYTES = 4096
_IN_PROGRESS = (0, errno.EINPROGRESS)


class _Open(NamedTuple):
    probe: Probe
    sock: socket.socket
    deadline: float
    answer: bytearray


class Probing:
    """The checks under way; `events` are what a poller must watch, by descriptor.

    Times are real seconds. A check takes at most its timeout, from connecting to the status line.
    """

    def __init__(self) -> None:
        self._open: dict[int, _Open] = {}
        self.events: dict[int, int] = {}
        self.results: list[ProbeResult] = []
        """Ended checks; the caller takes and clears them."""

    def begin(self, probe: Probe, now: float, timeout_s: float) -> None:
        """Connect to the target from the node's address."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            sock.bind((probe.node, 0))
            code = sock.connect_ex((probe.target.address, probe.check.port))
        except OSError as error:
            code = error.errno or errno.EIO
        if code not in _IN_PROGRESS:
            sock.close()
            self.results.append(ProbeResult(probe, FAILED))
            return
        self._open[sock.fileno()] = _Open(probe, sock, now + timeout_s, bytearray())
        self.events[sock.fileno()] = select.POLLOUT

    def ready(self, descriptor: int) -> None:
        """Something happened on a descriptor."""
        check = self._open.get(descriptor)
        if check is None:
            return
        if self.events[descriptor] == select.POLLOUT:
            code = check.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                self._end(descriptor, FAILED)
            elif check.probe.check.protocol == "TCP":
                self._end(descriptor, "")
            else:
                self._ask(descriptor, check)
            return
        try:
            data = check.sock.recv(_ANSWER_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._end(descriptor, FAILED)
            return
        check.answer.extend(data)
        line, end, _ = bytes(check.answer).partition(b"\n")
        if end:
            self._end(descriptor, _judge(line, check.probe.check.matcher))
        elif not data or len(check.answer) >= _ANSWER_BYTES:
            self._end(descriptor, FAILED)

    def expire(self, now: float) -> None:
        """End the checks that took too long."""
        for descriptor, check in list(self._open.items()):
            if now >= check.deadline:
                self._end(descriptor, TIMED_OUT)

    def next_deadline(self) -> float:
        """When the first check under way times out, math.inf without any."""
        return min((check.deadline for check in self._open.values()), default=float("inf"))

    def close(self) -> None:
        """Give up every check."""
        for check in self._open.values():
            check.sock.close()
        self._open.clear()
        self.events.clear()

    def _ask(self, descriptor: int, check: _Open) -> None:
        request = (
            f"GET {check.probe.check.path} HTTP/1.1\r\n"
            f"Host: {check.probe.target.address}:{check.probe.check.port}\r\n"
            "User-Agent: ELB-HealthChecker/2.0\r\nConnection: close\r\n\r\n"
        )
        try:
            check.sock.send(request.encode("latin-1", "replace"))
        except OSError:
            self._end(descriptor, FAILED)
            return
        self.events[descriptor] = select.POLLIN

    def _end(self, descriptor: int, reason: str) -> None:
        check = self._open.pop(descriptor)
        del self.events[descriptor]
        check.sock.close()
        self.results.append(ProbeResult(check.probe, reason))


def _judge(line: bytes, matcher: str) -> str:
    words = line.split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        return FAILED
    code = int(words[1])
    return "" if any(code in codes for codes in parse_matcher(matcher)) else WRONG_CODE
