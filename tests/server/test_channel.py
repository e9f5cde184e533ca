"""Messages between processes: whole or not at all, and nobody waits."""

from __future__ import annotations

import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from appliance_sdk.server.channel import Channel

messages = st.lists(
    st.dictionaries(st.text(max_size=8), st.binary(max_size=100_000), max_size=3), max_size=5
)


@given(messages)
def test_what_is_said_is_heard_in_order(said: list[dict[str, bytes]]) -> None:
    here, there = Channel.pair()
    heard = []
    for fields in said:
        assert here.send("kind", fields=fields)
        heard += [message["fields"] for _, message in there.receive()]
    while not here.flush():
        heard += [message["fields"] for _, message in there.receive()]
    heard += [message["fields"] for _, message in there.receive()]
    assert heard == said
    here.close()
    there.close()


def test_a_side_that_does_not_listen_costs_messages_not_time() -> None:
    here, there = Channel.pair()
    sent = sum(here.send("beat", data=bytes(100_000)) for _ in range(200))
    assert sent < 200
    assert here.lost == 200 - sent
    heard = 0
    for _ in range(200):
        heard += sum(1 for _ in there.receive())
        here.flush()
    assert heard == sent
    here.close()
    there.close()


def test_one_message_larger_than_the_queue_still_gets_through() -> None:
    here, there = Channel.pair()
    small = Channel(here._sock.dup(), queue_bytes=1000)
    assert small.send("loaded", data=bytes(5_000_000))
    heard: list[tuple[str, dict[str, bytes]]] = []
    while not heard:
        small.flush()
        heard += there.receive()
    assert len(heard[0][1]["data"]) == 5_000_000
    for channel in (here, there, small):
        channel.close()


def test_what_a_dead_process_left_half_said_is_forgotten() -> None:
    here, there = Channel.pair()
    here.send("long", data=bytes(5_000_000))
    assert here._waiting, "more than a socket holds, so that some of it is never sent"
    assert list(there.receive(3)) == []
    successor = Channel(here._sock.dup())
    here._waiting.clear()
    heard: list[str] = []
    successor.send("hello")
    for _ in range(500):
        successor.flush()
        heard += [kind for kind, _ in there.receive(10)]
    assert heard == ["hello"]
    for channel in (here, there, successor):
        channel.close()


def test_finish_waits_for_a_slow_listener_but_not_for_one_that_is_gone() -> None:
    ours, theirs = Channel.pair()
    for number in range(5000):
        assert ours.send("event", number=number, text="x" * 1000)
    heard: list[int] = []

    def listen() -> None:
        while len(heard) < 5000:
            time.sleep(0.001)
            heard.extend(fields["number"] for _, fields in theirs.receive(100))

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    assert ours.finish(5.0)
    thread.join(20)
    assert heard == list(range(5000))
    for number in range(5000):
        ours.send("event", number=number, text="x" * 1000)
    assert not ours.finish(0.1)
    theirs.close()
    assert not ours.finish(0.1)
