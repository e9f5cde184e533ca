"""Handler state: there and back, over changes of the class, and against hostile bytes."""

from __future__ import annotations

import contextlib
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance_sdk.errors import PluginError
from appliance_sdk.flow.codec import decode_state, encode_state
from appliance_sdk.plugin.handler import FlowHandler


class Point(msgspec.Struct):
    x: int
    label: bytes = b""


class State(FlowHandler[Any]):
    count: int = 0
    ratio: float = 0.0
    name: str = ""
    raw: bytes = b""
    seen: set[str] = set()
    pair: tuple[int, str] = (0, "")
    by_port: dict[int, list[bytes]] = {}
    points: list[Point] = []
    maybe: int | None = None
    _private: int = 7


states = st.builds(
    State,
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.binary(max_size=50),
    st.sets(st.text(max_size=5), max_size=5),
    st.tuples(st.integers(-10, 10), st.text(max_size=3)),
    st.dictionaries(st.integers(0, 65535), st.lists(st.binary(max_size=5), max_size=3), max_size=4),
    st.lists(st.builds(Point, st.integers(-5, 5), st.binary(max_size=3)), max_size=3),
    st.none() | st.integers(0, 5),
)


@given(states)
def test_there_and_back(state: State) -> None:
    again = decode_state(State, encode_state(state))
    for field in State.__struct_fields__:
        if not field.startswith("_"):
            assert getattr(again, field) == getattr(state, field)


def test_private_fields_are_neither_saved_nor_accepted() -> None:
    state = State()
    state._private = 99
    state._flow = "flow"
    assert decode_state(State, encode_state(state))._private == 7
    forged = msgpack.packb([1, {"count": 3, "_private": 1, "_flow": "x", "_seat": "y"}])
    again = decode_state(State, forged)
    assert (again.count, again._private, again._flow, again._seat) == (3, 7, None, None)


class Old(FlowHandler[Any]):
    failures: int = 0
    gone: str = ""


OLD = encode_state(Old(3, "x"))


def test_a_removed_field_is_left_out_and_a_new_one_takes_its_default() -> None:
    class New(FlowHandler[Any]):
        failures: int = 0
        added: list[int] = []

    again = decode_state(New, OLD)
    assert (again.failures, again.added) == (3, [])


def test_a_field_of_another_type_is_refused() -> None:
    class New(FlowHandler[Any]):
        failures: str = ""

    with pytest.raises(PluginError, match="does not fit"):
        decode_state(New, OLD)


def test_a_new_field_without_a_default_is_refused() -> None:
    class New(FlowHandler[Any], kw_only=True):
        needed: int

    with pytest.raises(PluginError, match="does not fit"):
        decode_state(New, OLD)


def test_what_cannot_be_saved_is_said() -> None:
    class Holds(FlowHandler[Any]):
        thing: Any = None

    with pytest.raises(PluginError, match="Holds"):
        encode_state(Holds(object()))
    with pytest.raises(PluginError, match="more than 65536"):
        encode_state(Holds(bytes(70_000)))
    with pytest.raises(PluginError, match="more than 10"):
        encode_state(Holds("x" * 20), limit_bytes=10)


HOSTILE = [
    b"",
    b"\xc1",
    b"\x92\x01",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\x91" * 5000,
    msgpack.packb({"count": 1}),
    msgpack.packb([2, {}]),
    msgpack.packb([1, []]),
    msgpack.packb([1, {"count": "1"}]),
    msgpack.packb([1, {"count": 2**64 - 1, "pair": [1]}]),
    msgpack.packb([1, {"points": [{"y": 1}]}]),
    msgpack.packb([1, {}]) + b"x",
    msgpack.packb([1, {"raw": msgpack.ExtType(5, b"x")}]),
    bytes(100_000),
]


@pytest.mark.parametrize("data", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_bytes_are_a_plugin_error(data: bytes) -> None:
    with pytest.raises(PluginError):
        decode_state(State, data)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_state_or_a_plugin_error(data: bytes) -> None:
    with contextlib.suppress(PluginError):
        assert isinstance(decode_state(State, data), State)
