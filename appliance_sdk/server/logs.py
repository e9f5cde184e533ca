"""What an appliance says about itself: structlog, and every event name in one list."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import structlog

from appliance_sdk.server.config import Log

LOG_EVENTS: Mapping[str, str] = MappingProxyType(
    {
        "appliance.started": "The first worker takes packets; health turns ready a moment later.",
        "appliance.draining": "A signal asked for the end: health fails, flows are served on.",
        "appliance.stopped": "The appliance ends, with how many flows were still live.",
        "appliance.reloaded": "Plugins have the results of a new `load()`.",
        "appliance.reload_failed": "A `load()` failed; what was loaded before stays in use.",
        "appliance.reload_late": "A worker does not listen; it gets the results when it does.",
        "listen.small_buffer": "The kernel grants less receive buffer than is configured.",
        "worker.started": "A worker takes packets.",
        "worker.died": "A worker ended by itself; another takes its place.",
        "worker.hung": "A worker said nothing for too long; its stack follows, another starts.",
        "worker.losing": "A worker began to lose packets or events; once until it ends.",
        "worker.failed": "A worker cannot start, with the reason.",
        "supervisor.failed": "The supervisor cannot start, with the reason.",
        "supervisor.died": "The supervisor ended by itself; another takes its place.",
        "supervisor.hung": "The supervisor said nothing for too long; another takes its place.",
        "health.changed": "The state that health checks see, with the reasons.",
        "health.port_failed": "Health checks cannot be taken, with the reason; logged once.",
        "engine.unknown_endpoint": "An endpoint that no zone lists, with what happens to it.",
        "engine.state_refused": "A flow cannot be saved or restored; it is then met in its middle.",
        "plugin.error": "A hook raised or returned nonsense; logged once a kind, counted always.",
        "plugin.tripped": "A plugin made too many errors, with what that means.",
        "plugin.load_failed": "`loaded()` refused what `load()` returned.",
        "plugin.said": "What a plugin tells by `Plugin.log`, with its name and zone.",
        "sink.failed": "A sink cannot write; logged once until it can again.",
        "sink.gave_up": "The appliance ends with events that a sink did not take.",
        "sink.recovered": "A sink that failed writes again, with how many events were lost.",
    }
)


class _StandardError:
    """Writes each line with one write(2), as several processes share the descriptor.

    A log that cannot be written (a full disk, a reader that is gone or stands still) must not
    stop the packets: what would have to wait is lost.
    """

    def __init__(self) -> None:
        self._cut = False

    def msg(self, message: str) -> None:
        """Write a line, or lose it."""
        try:
            descriptor = sys.stderr.fileno()
        except (OSError, ValueError, AttributeError):  # closed, or no file at all
            with contextlib.suppress(OSError, ValueError, AttributeError):
                sys.stderr.write(f"{message}\n")
            return
        line = f"{message}\n".encode(errors="backslashreplace")
        if self._cut:
            line = b"\n" + line
        # A pipe that takes anything takes PIPE_BUF bytes, in one piece (pipe(7)).
        written = 0
        while written < len(line) and _takes(descriptor):
            try:
                written += os.write(descriptor, line[written : written + select.PIPE_BUF])
            except OSError:
                break
        if written:
            self._cut = written < len(line)

    debug = info = warning = error = msg


def _takes(descriptor: int) -> bool:
    """Whether a write does not wait."""
    poller = select.poll()
    poller.register(descriptor, select.POLLOUT)
    return bool(poller.poll(0))


def configure_logs(log: Log) -> None:
    """Send structlog to standard error, as JSON lines or for people."""
    renderer: Any = (
        structlog.processors.JSONRenderer(default=str)
        if log.format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    standard_error = _StandardError()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks
            if log.format == "json"
            else structlog.processors.StackInfoRenderer(),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, log.level.upper())),
        logger_factory=lambda *_: standard_error,
        cache_logger_on_first_use=False,
    )


_WARNINGS = frozenset(
    name
    for name in LOG_EVENTS
    if name.endswith(
        (
            ".died",
            ".hung",
            ".losing",
            ".small_buffer",
            "_failed",
            ".failed",
            ".error",
            ".tripped",
            "_refused",
            ".gave_up",
        )
    )
)


def log_event(name: str, **fields: Any) -> None:
    """Log one of the LOG_EVENTS; what went wrong as a warning, the rest for information."""
    error = fields.get("error")
    if isinstance(error, BaseException):
        fields["error"] = f"{type(error).__name__}: {error}"
        fields["exc_info"] = error
    logger = structlog.get_logger()
    (logger.warning if name in _WARNINGS else logger.info)(name, **fields)
