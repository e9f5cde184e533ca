"""`dsize` and `flags`."""

from __future__ import annotations

import pytest

from reference_appliances.ids.problems import RuleError

from ..conftest import options, subject


def holds(body: str, *, size: int = 0, flags: int = 0x10) -> bool:
    (option,) = options(body)
    condition = option.condition()
    assert condition is not None
    found: bool = condition(subject(b"x" * size, flags=flags))
    return found


@pytest.mark.parametrize(
    ("value", "inside", "outside"),
    [
        ("10", [10], [0, 9, 11]),
        ("0", [0], [1]),
        ("!9", [8, 10], [9, 0]),
        ("<10", [0, 9], [10]),
        ("<=10", [0, 10], [11]),
        (">10", [11, 65535], [10]),
        (">=10", [10], [9]),
        (">=0", [1], [0]),
        ("8<>20", [9, 19], [8, 20, 0]),
        (" 8 <> 20 ", [9], [8]),
    ],
)
def test_dsize(value: str, inside: list[int], outside: list[int]) -> None:
    assert all(holds(f"dsize:{value};", size=size) for size in inside)
    assert not any(holds(f"dsize:{value};", size=size) for size in outside)


@pytest.mark.parametrize("value", ["", "x", "-1", "65536", "9<>10", "20<>8", "=10", "1-2"])
def test_dsize_that_is_refused(value: str) -> None:
    with pytest.raises(RuleError):
        options(f"dsize:{value};")


S, A, F, P, E, C = 0x02, 0x10, 0x01, 0x08, 0x40, 0x80


@pytest.mark.parametrize(
    ("value", "inside", "outside"),
    [
        ("S", [S], [S | A, A, 0]),
        ("SA", [S | A], [S, S | A | P]),
        ("S+", [S, S | A], [A]),
        ("+S", [S, S | A], [A]),
        ("*SF", [S, F | A], [A]),
        ("!S", [A, 0], [S, S | A]),
        ("!SF", [S, A], [S | F]),
        ("S,CE", [S, S | C, S | E | C], [S | A]),
        ("S,12", [S, S | C | E], [S | A]),
        ("0", [0], [S]),
        ("!0", [S], [0]),
        ("sa", [S | A], [S]),
    ],
)
def test_flags(value: str, inside: list[int], outside: list[int]) -> None:
    assert all(holds(f"flags:{value};", flags=flags) for flags in inside)
    assert not any(holds(f"flags:{value};", flags=flags) for flags in outside)
    assert not holds(f"flags:{value};", flags=-1)


@pytest.mark.parametrize("value", ["", "X", "S+*", "S,X", "S+A", ","])
def test_flags_that_are_refused(value: str) -> None:
    with pytest.raises(RuleError):
        options(f"flags:{value};")
