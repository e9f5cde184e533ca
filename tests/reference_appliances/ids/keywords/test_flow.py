"""`flow`: its words, and those that contradict each other."""

from __future__ import annotations

import pytest

from reference_appliances.ids.keywords.flow import FlowOption
from reference_appliances.ids.problems import RuleError

from ..conftest import options


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("to_server", FlowOption(to_server=True)),
        ("from_server", FlowOption(to_server=False)),
        ("established,from_client", FlowOption(to_server=True, established=True)),
        (" Not_Established , to_client", FlowOption(to_server=False, established=False)),
        ("stateless", FlowOption()),
        ("only_stream,no_frag", FlowOption(stream=True)),
        ("no_stream", FlowOption(stream=False)),
    ],
)
def test_words(value: str, expected: FlowOption) -> None:
    assert options(f"flow:{value};") == (expected,)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("to_sever", "did you mean `to_server`?"),
        ("", "unknown word"),
        ("to_server,to_client", "contradicts"),
        ("established,not_established", "contradicts"),
        ("only_frag", "not supported"),
    ],
)
def test_what_is_refused(value: str, message: str) -> None:
    with pytest.raises(RuleError) as caught:
        options(f"flow:{value};")
    assert message in str(caught.value)
