"""Commands that start processes end them, whichever way they are told to end."""

from __future__ import annotations

import functools
import signal
import sys
from types import FrameType

import click


def end_on_signals() -> None:
    """Have SIGTERM and a hang-up end this command as Ctrl-C does: with all that it started.

    Its exit status is then 128 and the signal's number, as of a shell. When the command is done,
    they do what they did before: it may have been called by another program.
    """
    context = click.get_current_context()
    for signum in (signal.SIGTERM, signal.SIGHUP):
        before = signal.getsignal(signum)
        if before is not signal.SIG_IGN:  # nohup
            signal.signal(signum, _end)
            context.call_on_close(functools.partial(signal.signal, signum, before))


def _end(signum: int, frame: FrameType | None) -> None:
    signal.signal(signum, signal.SIG_IGN)  # once is enough: what follows is the cleaning up
    sys.exit(128 + signum)
