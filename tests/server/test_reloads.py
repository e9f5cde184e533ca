"""Who gets what was loaded anew, and what health says of it; nothing is loaded here."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from typing import Any

import pytest

from appliance_sdk.errors import ConfigError
from appliance_sdk.server.channel import Channel
from appliance_sdk.server.loads import Loaded
from appliance_sdk.server.reloads import Reloads

OLD = [Loaded("firewall", ("default",), b"old")]


class Loading:
    """A load that is over when the test says so."""

    running: Loading | None = None
    outcome: Any = None

    def __init__(self, jobs: object) -> None:
        self._reader, self._writer = os.pipe()
        assert Loading.running is None, "two at once"
        Loading.running = self

    def fileno(self) -> int:
        return self._reader

    def read(self) -> bool:
        return True

    def result(self) -> list[Loaded]:
        Loading.running = None
        self.cancel()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return [Loaded("firewall", ("default",), self.outcome)]

    def cancel(self) -> None:
        os.close(self._reader)
        os.close(self._writer)


class Scene:
    """Reloads, and the ends at which two workers would listen."""

    def __init__(self) -> None:
        pairs = [Channel.pair(queue_bytes=100_000) for _ in range(2)]
        self.ours = [ours for ours, _ in pairs]
        self.theirs = [theirs for _, theirs in pairs]
        self.now = 100.0
        self.reloads = Reloads((), OLD, self.ours, select.poll(), self.now)

    def load(self, outcome: Any) -> None:
        """A reload is asked for, and comes to that."""
        self.reloads.ask(self.now)
        self.end(outcome)

    def end(self, outcome: Any) -> None:
        """The load that is running does."""
        assert Loading.running is not None
        Loading.running.outcome = outcome
        self.reloads.go_on({Loading.running.fileno()}, self.now)

    def got(self, worker: int) -> list[tuple[int, bytes]]:
        """Generation and data of each message that a worker is sent; it takes all there is."""
        said: list[tuple[str, dict[str, Any]]] = []
        while not self.ours[worker].flush():
            said += self.theirs[worker].receive()
        said += self.theirs[worker].receive()
        assert {kind for kind, _ in said} <= {"loaded"}
        return [(fields["generation"], fields["loads"][0][2]) for _, fields in said]

    def reasons(self) -> tuple[str, ...]:
        return self.reloads.status(self.now).reasons


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr("appliance_sdk.server.reloads.LoadProcess", Loading)
    made = Scene()
    yield made
    if Loading.running is not None:
        made.reloads.cancel()
        Loading.running = None
    for channel in (*made.ours, *made.theirs):
        channel.close()


def test_every_worker_gets_it_and_those_that_start_later_begin_with_it(scene: Scene) -> None:
    scene.load(b"new")
    assert scene.reloads.loads == OLD  # nobody has taken it yet: it may end whoever does
    assert [scene.got(worker) for worker in (0, 1)] == [[(1, b"new")]] * 2
    scene.reloads.accepted(0, 1)
    assert (scene.reloads.generation, scene.reloads.loads[0].packed) == (1, b"new")
    scene.reloads.accepted(1, 1)
    assert scene.reloads.status(scene.now) == (1, 0, ())


def test_a_load_that_fails_is_a_reason_until_one_succeeds(scene: Scene) -> None:
    scene.load(ConfigError("no such port", path="rules.txt"))
    (reason,) = scene.reasons()
    assert reason.startswith("the last reload failed: ")
    assert "rules.txt" in reason
    assert "no such port" in reason
    assert scene.got(0) == []
    assert scene.reloads.loads == OLD
    scene.load(b"new")
    assert scene.reasons() == ()
    scene.reloads.accepted(0, 1)
    assert scene.reloads.status(scene.now) == (1, 1, ())


def test_what_a_plugin_refuses_is_one_failure_however_many_workers_say_so(scene: Scene) -> None:
    scene.load(b"new")
    for worker in (0, 1):
        scene.reloads.refused(worker, 1, "nonsense")
    assert scene.reloads.status(scene.now) == (
        0,
        1,
        ("the last reload failed: worker 1: nonsense",),
    )
    assert scene.reloads.loads == OLD


def test_who_is_asked_twice_meanwhile_loads_once_more(scene: Scene) -> None:
    for _ in range(3):
        scene.reloads.ask(scene.now)
    scene.end(b"one")
    scene.end(b"two")
    assert Loading.running is None
    assert scene.got(0) == [(1, b"one"), (2, b"two")]
    scene.reloads.accepted(0, 1)  # of that nobody needs to know any more
    assert scene.reloads.generation == 0


def test_a_load_that_never_ends_is_said(scene: Scene) -> None:
    scene.reloads.ask(scene.now)
    assert scene.reasons() == ()
    scene.now += 61
    assert scene.reasons() == ("load() has been running for more than 60 s",)
    scene.end(b"new")
    assert scene.reasons() == ()


def test_a_worker_that_does_not_listen_gets_the_newest_when_it_does(scene: Scene) -> None:
    large = bytes(5_000_000)  # more than the kernel takes, and one such is all that may wait
    scene.load(large)
    scene.got(0)
    for data in (b"second", b"third"):
        scene.load(data)
    assert scene.got(0) == [(2, b"second"), (3, b"third")]
    scene.reloads.accepted(0, 3)
    late = ("worker 1 does not listen: it has not got what was loaded anew",)
    assert scene.reasons() == late
    scene.reloads.go_on((), scene.now)
    assert scene.reasons() == late
    assert scene.got(1) == [(1, large)]
    scene.reloads.go_on((), scene.now)
    assert scene.reasons() == ()
    assert scene.got(1) == [(3, b"third")]


def test_who_takes_its_place_has_it_already(scene: Scene) -> None:
    scene.load(bytes(5_000_000))
    scene.got(0)
    scene.load(b"second")
    scene.reloads.accepted(0, 2)
    assert len(scene.reasons()) == 1
    scene.reloads.started(1)
    assert scene.reasons() == ()


def test_who_started_before_anybody_had_taken_it_gets_it_once_somebody_has(scene: Scene) -> None:
    scene.load(b"new")
    assert scene.got(0) == [(1, b"new")]
    scene.reloads.started(0)  # with what was before: it may be the new data that ended it
    scene.reloads.go_on((), scene.now)
    assert scene.got(0) == []
    scene.reloads.accepted(1, 1)
    scene.reloads.go_on((), scene.now)
    assert scene.got(0) == [(1, b"new")]
