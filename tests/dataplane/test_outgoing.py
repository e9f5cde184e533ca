"""What is to be sent keeps its order, and its place until it is sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from appliance_sdk.dataplane.batch import Batch
from appliance_sdk.dataplane.outgoing import Outgoing
from appliance_sdk.dataplane.replies import Replies, Run

HERE, THERE = b"here", b"ther"


class Recorder:
    """Replies that keep what they were given, as it was when it was to be sent."""

    unbindable_ports = 0

    def __init__(self) -> None:
        self.runs: list[list[tuple[int, int, bytes]]] = []
        self.sent: list[list[bytes]] = []

    def send(self, runs: Sequence[Run]) -> None:
        self.runs.append([run[1:] for run in runs])
        self.sent.append(
            [
                batch.room.map[batch.offsets[i] : batch.offsets[i] + batch.sizes[i]]
                for batch, first, end, _local in runs
                for i in range(first, end)
            ]
        )

    def close(self) -> None:
        self.runs.clear()


def _outgoing(size: int = 4) -> tuple[Outgoing, Recorder, Counter[str]]:
    replies: Replies = (recorder := Recorder())
    errors: Counter[str] = Counter()
    return Outgoing(replies, errors, {b"self"}, size, 100), recorder, errors


def _batch(*payloads: bytes) -> Batch:
    batch = Batch(len(payloads), 16)
    batch.sizes = [len(payload) for payload in payloads]
    for offset, payload in zip(batch.offsets, payloads, strict=True):
        batch.room.map[offset : offset + len(payload)] = payload
    return batch


def test_what_comes_between_keeps_its_place() -> None:
    outgoing, recorder, _errors = _outgoing()
    batch = _batch(b"0", b"1", b"2", b"3")
    outgoing.forward(batch, 0, 2, HERE)
    outgoing.add(b"ppnode", HERE, b"made")
    outgoing.forward(batch, 3, 4, HERE)
    assert recorder.sent == []
    outgoing.flush()
    outgoing.flush()
    assert recorder.sent == [[b"0", b"1", b"made", b"3"]]


def test_neighbours_are_one_run() -> None:
    outgoing, recorder, _errors = _outgoing()
    batch = _batch(*[b"x"] * 8)
    for first, end, local in ((0, 0, HERE), (0, 2, HERE), (2, 3, HERE), (3, 3, HERE)):
        outgoing.forward(batch, first, end, local)
    outgoing.forward(batch, 4, 5, HERE)
    outgoing.forward(batch, 5, 6, THERE)
    outgoing.forward(_batch(*[b"y"] * 8), 6, 8, THERE)
    outgoing.flush()
    assert recorder.runs == [[(0, 3, HERE), (4, 5, HERE), (5, 6, THERE), (6, 8, THERE)]]


def test_when_there_is_no_room_what_is_there_goes_first() -> None:
    outgoing, recorder, _errors = _outgoing(size=4)
    outgoing.forward(_batch(b"first"), 0, 1, HERE)
    for number in range(9):
        outgoing.add(b"ppnode", HERE, b"%d" % number)
    outgoing.flush()
    assert recorder.sent == [
        [b"first", b"0", b"1", b"2", b"3"],
        [b"4", b"5", b"6", b"7"],
        [b"8"],
    ]


def test_what_is_too_long_is_counted() -> None:
    outgoing, recorder, errors = _outgoing()
    outgoing.add(b"ppnode", HERE, bytes(101))
    outgoing.add(b"ppnode", HERE, bytes(100))
    outgoing.flush()
    assert errors == {"EMSGSIZE": 1}
    assert recorder.sent == [[bytes(100)]]


def test_nothing_goes_to_ourselves() -> None:
    outgoing, recorder, errors = _outgoing()
    outgoing.add(b"ppself", HERE, b"round")
    assert not outgoing.allows(b"ppself")
    assert outgoing.allows(b"selfno")
    outgoing.flush()
    assert errors == {"ELOOP": 2}
    assert recorder.sent == []
