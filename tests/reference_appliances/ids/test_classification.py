"""Classes of rules: the built-in ones, and those of a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance_sdk import ConfigError
from reference_appliances.ids.classification import BUILT_IN, Class, read_classes

SHARED = Path(__file__).parents[3].parent / "shared" / "data"
PUBLISHED = SHARED / "et.classification.config"


def test_a_file_as_it_is_published(tmp_path: Path) -> None:
    path = tmp_path / "classification.config"
    path.write_text(
        "# a comment\n\n"
        "config classification: attempted-admin,Attempted Administrator Privilege Gain,1\n"
        "  config classification:bad-unknown , Potentially Bad Traffic, 2\r\n"
    )
    assert read_classes(path) == {
        "attempted-admin": Class("Attempted Administrator Privilege Gain", 1),
        "bad-unknown": Class("Potentially Bad Traffic", 2),
    }


@pytest.mark.parametrize("line", ["config reference: url http://", "config classification: a,b"])
def test_a_mistake_names_the_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "classification.config"
    path.write_text(f"# a comment\n{line}\n")
    with pytest.raises(ConfigError, match=r"classification\.config:2: is no class"):
        read_classes(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_classes(tmp_path / "none")


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published classes are not here")
def test_the_built_in_ones_are_those_of_public_rule_sets() -> None:
    published = read_classes(PUBLISHED)
    priorities = {name: kind.priority for name, kind in published.items()}
    assert {name: BUILT_IN[name].priority for name in published} == priorities
