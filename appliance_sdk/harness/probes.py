"""Health checks over real TCP, HTTP and HTTPS, many at once, without waiting for any."""

from __future__ import annotations

import errno
import select
import socket
import ssl
import struct

from appliance_sdk.harness.checks import Probe
from appliance_sdk.harness.fleet import ProbeResult
from appliance_sdk.harness.settings import parse_matcher
from appliance_sdk.harness.states import FAILED, TIMED_OUT, WRONG_CODE

_ANSWER_BYTES = 4096
_IN_PROGRESS = (0, errno.EINPROGRESS)
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)


class _Check:
    """One check under way: it connects, shakes hands if it is HTTPS, asks, and reads a line."""

    def __init__(self, probe: Probe, sock: socket.socket, deadline: float) -> None:
        self.probe = probe
        self.sock = sock
        self.deadline = deadline
        self.connected = False
        self.secure = probe.check.protocol != "HTTPS"
        self.unsent = _request(probe)
        self.answer = bytearray()

    def step(self, context: ssl.SSLContext) -> int | str:
        """Go as far as it goes now: what to wait for next, or how the check ended.

        Raises OSError, of which ssl.SSLError is one.
        """
        if not self.connected:
            code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                return FAILED
            self.connected = True
            if self.probe.check.protocol == "TCP":
                return ""
            if not self.secure:
                self.sock = context.wrap_socket(self.sock, do_handshake_on_connect=False)
        try:
            if not self.secure and isinstance(self.sock, ssl.SSLSocket):
                self.sock.do_handshake()
                self.secure = True
            while self.unsent:
                self.unsent = self.unsent[self.sock.send(self.unsent) :]
            return self._read()
        except ssl.SSLWantReadError:
            return select.POLLIN
        except ssl.SSLWantWriteError:
            return select.POLLOUT
        except BlockingIOError:
            return select.POLLOUT if self.unsent else select.POLLIN

    def _read(self) -> str:
        while True:
            data = self.sock.recv(_ANSWER_BYTES)
            self.answer += data
            line, end, _ = bytes(self.answer).partition(b"\n")
            if end:
                return _judge(line, self.probe.check.matcher)
            if not data or len(self.answer) >= _ANSWER_BYTES:
                return FAILED


class Probing:
    """The checks under way; `events` are what a poller must watch, by descriptor.

    Times are real seconds. A check takes at most its timeout, from connecting to the status line.
    """

    def __init__(self) -> None:
        self._open: dict[int, _Check] = {}
        self._context: ssl.SSLContext | None = None
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
        self._open[sock.fileno()] = _Check(probe, sock, now + timeout_s)
        self.events[sock.fileno()] = select.POLLOUT

    def ready(self, descriptor: int) -> None:
        """Something happened on a descriptor."""
        check = self._open.get(descriptor)
        if check is None:
            return
        if self._context is None:
            self._context = _tls()
        try:
            next_step = check.step(self._context)
        except (OSError, ValueError):  # ValueError: of what is no TLS at all
            next_step = FAILED
        if isinstance(next_step, int):
            self.events[descriptor] = next_step
        else:
            self._end(descriptor, next_step)

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

    def _end(self, descriptor: int, reason: str) -> None:
        check = self._open.pop(descriptor)
        del self.events[descriptor]
        if check.probe.close == "reset":
            check.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        check.sock.close()
        self.results.append(ProbeResult(check.probe, reason))


def _tls() -> ssl.SSLContext:
    """Any certificate will do; TLS 1.3 alone will not (AWS guide, "Health checks")."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # small keys are nobody's business here
    return context


def _request(probe: Probe) -> bytes:
    request = (
        f"GET {probe.check.path} HTTP/1.1\r\n"
        f"Host: {probe.target.address}:{probe.check.port}\r\n"
        f"User-Agent: {probe.user_agent}\r\nConnection: close\r\n\r\n"
    )
    return request.encode("latin-1", "replace")


def _judge(line: bytes, matcher: str) -> str:
    words = line.split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        return FAILED
    code = int(words[1])
    return "" if any(code in codes for codes in parse_matcher(matcher)) else WRONG_CODE
