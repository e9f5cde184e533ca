"""Children that do not outlive their parent."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_forked_by = 0
"""The process that forked this one; 0 if none did since the program was started."""


def _about_to_fork() -> None:
    global _forked_by  # noqa: PLW0603 - a process has one parent
    _forked_by = os.getpid()


os.register_at_fork(before=_about_to_fork)


def die_with_parent() -> None:
    """Have the kernel end this process when its parent ends, however that happens (prctl(2))."""
    parent = _forked_by if _forked_by not in (0, os.getpid()) else os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    if os.getppid() != parent:  # it ended before we asked, maybe before we ran
        os._exit(1)
