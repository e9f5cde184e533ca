"""Catches plugins that block: calls that wait raise while a hook may be running."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_BLOCKING = frozenset(
    (
        "socket.connect",
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "socket.gethostbyaddr",
        "subprocess.Popen",
        "os.system",
        "os.posix_spawn",
        "urllib.Request",
    )
)


class _Watch:
    """The audit hook can never be removed again, so it is installed once and switched."""

    installed = False
    depth = 0
    sleep = time.sleep


def _audit(event: str, arguments: Any) -> None:
    if _Watch.depth and event in _BLOCKING:
        raise RuntimeError(f"{event}{arguments!r:.60} blocks the worker; do it in load()")


def _no_sleep(seconds: Any, /) -> None:
    raise RuntimeError(f"time.sleep({seconds!r}) blocks the worker; use wake()")


@contextmanager
def no_blocking() -> Iterator[None]:
    """Inside, sleeping, connecting, resolving names and starting programs raise RuntimeError."""
    if not _Watch.installed:
        sys.addaudithook(_audit)
        _Watch.installed = True
    _Watch.depth += 1
    time.sleep = _no_sleep  # no audit event before Python 3.13
    try:
        yield
    finally:
        _Watch.depth -= 1
        if not _Watch.depth:
            time.sleep = _Watch.sleep
