"""The firewall as a process, of one or several workers, does what it does in memory."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from firewall_in_memory import COUNTERS, Answer, Played, in_memory
from seeded_traffic import Sent, rounds, seeded_flows

if TYPE_CHECKING:
    from tests.dataplane.conftest import Node

SCRIPT = Path(__file__).parents[1] / "support" / "reference_workers.py"
ENGINE = ("rejects_per_s=1000000", "closed_s=300", "half_open_s=300")
"""What depends on how much time passes must not: the machine is slow when it likes."""
DEADLINE_S = 30.0
OF_TIME = ("start", "end", "age")
SUMMED = ("dropped", "metrics")


class Process:
    """The firewall as its users run it."""

    def __init__(self, folder: Path, address: str, node: str, workers: int, raw: bool) -> None:
        self.address = address
        self._eve = folder / "eve.json"
        self._log = folder / "log.txt"
        places = [str(workers), str(raw).lower(), address, "8080", f"{node}/32"]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(SCRIPT), "firewall", *places, *ENGINE],
                env={**os.environ, "CONFORMANCE_EVENTS": str(self._eve)},
                stdout=log,
                stderr=log,
            )

    def health(self) -> Any:
        """What `?verbose` says, None while nobody answers or not every worker does."""
        connection = http.client.HTTPConnection(self.address, 8080, timeout=5)
        try:
            connection.request("GET", "/?verbose")
            details = json.loads(connection.getresponse().read())
        except ConnectionError:
            return None
        finally:
            connection.close()
        return None if details["state"] == "starting" else details

    def until(self, holds: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            if value := holds():
                return value
            time.sleep(0.02)
        raise AssertionError(f"{what}: not within {DEADLINE_S} s\n{self._log.read_text()}")

    def play(self, turns: list[list[Sent]], node: Node, expected: list[list[Answer]]) -> Played:
        """Send each turn when the one before is answered as in memory, or patience ends."""
        self.until(self.health, "every worker has spoken")
        answers: list[list[Answer]] = []
        for turn, wanted in zip(turns, expected, strict=True):
            for port, payload in turn:
                node.send(port, payload, (self.address, 6081))
            found: list[Answer] = []
            while len(found) < len(wanted):
                try:
                    payload, (source, port) = node.answer()
                except TimeoutError:
                    break
                assert source == self.address
                found.append((port, payload))
            answers.append(found)
        sent = sum(map(len, turns))
        self.until(lambda: self.health()["counters"]["received"] >= sent, "all is received")
        assert node.answers() == []  # what is more than in memory
        self.process.send_signal(signal.SIGTERM)
        self.until(lambda: self.process.poll() is not None, "ended")
        assert self.process.returncode == 0
        return Played(answers, self.events(), self.events("stats")[-1]["stats"])

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        """EVE records so far, of one kind if that is given."""
        lines = self._eve.read_text().splitlines() if self._eve.exists() else []
        records = [json.loads(line) for line in lines]
        return [one for one in records if kind in ("", one["event_type"])]

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


def of_flows(events: list[dict[str, Any]]) -> list[str]:
    """What was said of flows, without times and ids, in an order of their own.

    Not the anomalies: each worker tells each of their reasons once a second.
    """
    told = []
    for event in json.loads(json.dumps(events)):
        if event.pop("flow_id", None) is None:
            continue
        del event["timestamp"]
        for name in OF_TIME:
            event.get("flow", {}).pop(name, None)
        told.append(json.dumps(event, sort_keys=True))
    return sorted(told)


def flat(counters: dict[str, Any]) -> dict[str, int]:
    """Counters as a `stats` event has them."""
    named = {f"{one}.{key}": n for one in SUMMED for key, n in counters[one].items()}
    return {**{name: counters[name] for name in COUNTERS}, **named}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("workers", [1, 4])
def test_a_process_agrees_with_memory(
    workers: int, raw: bool, own_address: Callable[[], str], node: Node, tmp_path: Path
) -> None:
    turns = list(rounds(seeded_flows(4)))
    address = own_address()
    expected = in_memory(turns, node.address, address)
    process = Process(tmp_path, address, node.address, workers, raw)
    try:
        found = process.play(turns, node, expected.answers)
    finally:
        process.stop()
    for mine, theirs in zip(found.answers, expected.answers, strict=True):
        assert sorted(mine) == sorted(theirs)
    wanted = flat(expected.counters)
    names = ("kernel_drops", "truncated", "handover_lost", "messages_lost", "events_lost")
    assert [found.counters[name] for name in names] == [0] * len(names)
    assert not [name for name in found.counters if name.startswith("send_errors")]
    stats = {
        name: count
        for name, count in found.counters.items()
        if name in wanted or name.startswith(SUMMED)
    }
    assert stats == wanted
    assert of_flows(found.events) == of_flows(expected.events)
