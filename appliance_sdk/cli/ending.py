"""Commands that start processes end them, whichever way they are told to end."""

from __future__ import annotations

import signal
import sys
from types import FrameType


def end_on_signals() -> None:
    """Have SIGTERM and a hang-up end this program as Ctrl-C does: with all that it started.

    Its exit status is then 128 and the signal's number, as of a shell.
    """
    for signum in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) is not signal.SIG_IGN:  # nohup
            signal.signal(signum, _end)


def _end(signum: int, frame: FrameType | None) -> None:
    signal.signal(signum, signal.SIG_IGN)  # once is enough: what follows is the cleaning up
    sys.exit(128 + signum)
