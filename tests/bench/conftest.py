"""What the tests of the benchmark share: a lab, where one can be had."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from small_lab import TINY, why_no_namespaces

from appliance_sdk.bench.lab import Lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Namespaces, a generator, and no time."""
    reason = why_no_namespaces()
    if reason:
        pytest.skip(reason)
    usable = os.sched_getaffinity(0)
    with Lab(TINY) as made:
        yield made
    assert os.sched_getaffinity(0) == usable
