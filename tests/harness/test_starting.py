"""What ends the harness while it starts an appliance comes when the appliance is known."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType

import pytest

from appliance_sdk import Plugin, PluginConfig
from appliance_sdk.harness import Forked, Subprocess, Target, free_loopback
from appliance_sdk.harness.guard import GUARD


class Told(Exception):
    """SIGTERM came."""


class Idle(Plugin):
    """Does nothing."""

    name = "idle"


class Interrupted(PluginConfig, frozen=True):
    """SIGTERM comes while it is read, by code that goes on after any exception."""

    def __post_init__(self) -> None:
        with contextlib.suppress(Exception):
            os.kill(os.getpid(), signal.SIGTERM)


class Forgiving(Plugin):
    """Does nothing either."""

    name = "forgiving"
    config: Interrupted


@pytest.fixture(autouse=True)
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The processes that were started; in the middle of each start there is a SIGTERM."""

    def tell(signum: int, frame: FrameType | None) -> None:
        raise Told

    pids: list[int] = []

    def take(pid: int, marker: str) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        pids.append(pid)

    monkeypatch.setattr(GUARD, "take", take)
    before = signal.signal(signal.SIGTERM, tell)
    yield pids
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("kind", ["command", "plugin"])
def test_it_is_known_and_hears_signals_itself(taken: list[int], kind: str) -> None:
    sleeps = [sys.executable, "-c", "import time; time.sleep(600)"]
    one = Subprocess(sleeps) if kind == "command" else Forked(Idle, health_port=18_500)
    try:
        with pytest.raises(Told):
            one.start(Target("one", f"{free_loopback()}.1.21", "a"))
        assert taken == [one.pid]
        assert one.ended() is None
        one.signal(signal.SIGTERM)
        deadline = time.monotonic() + 60
        while one.ended() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert one.ended() is not None
    finally:
        one.kill()


def test_what_a_program_does_about_signals_its_appliance_does_not_do() -> None:
    one = Forked(Forgiving, health_port=18_501)
    try:
        with pytest.raises(Told):
            one.start(Target("one", f"{free_loopback()}.1.22", "a"))
        deadline = time.monotonic() + 60
        while one.ended() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert one.ended() == -signal.SIGTERM
    finally:
        one.kill()
