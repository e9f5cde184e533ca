"""Ranges against sets of numbers."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from reference_appliances.ids.ranges import Ranges, RangeSet, complement, merged, without

TOP = 40
PAIRS = st.lists(
    st.tuples(st.integers(0, TOP), st.integers(0, TOP)).map(lambda p: (min(p), max(p)))
)


def numbers(ranges: Ranges) -> set[int]:
    return {n for low, high in ranges for n in range(low, high + 1)}


@given(PAIRS)
def test_merged_ranges_are_disjoint_and_hold_the_same(pairs: list[tuple[int, int]]) -> None:
    found = merged(pairs)
    assert numbers(found) == numbers(tuple(pairs))
    assert all(a[1] + 1 < b[0] for a, b in itertools.pairwise(found))


@given(PAIRS, PAIRS)
def test_set_arithmetic(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> None:
    one, other = merged(a), merged(b)
    everything = set(range(TOP + 1))
    assert numbers(complement(one, TOP)) == everything - numbers(one)
    assert numbers(without(one, other, TOP)) == numbers(one) - numbers(other)


@given(PAIRS)
def test_membership_of_numbers_and_of_packed_addresses(pairs: list[tuple[int, int]]) -> None:
    found = merged(pairs)
    plain = RangeSet(found)
    packed = RangeSet([(low.to_bytes(4, "big"), high.to_bytes(4, "big")) for low, high in found])
    for n in range(TOP + 1):
        assert (n in plain) == (n.to_bytes(4, "big") in packed) == (n in numbers(found))
