"""The list of reasons is what the code raises: no more and no less."""

from __future__ import annotations

import ast
from pathlib import Path

import appliance_sdk.wire
from appliance_sdk.wire.reasons import MALFORMED


def raised() -> set[str]:
    found: set[str] = set()
    for path in Path(appliance_sdk.wire.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "MalformedPacket"
            ):
                found |= {
                    part.value
                    for part in ast.walk(node.args[0])
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                }
    return found


def test_every_reason_is_explained_and_every_explanation_has_its_reason() -> None:
    assert raised() == set(MALFORMED)


def test_an_explanation_is_one_sentence() -> None:
    for reason, text in MALFORMED.items():
        assert reason.replace("_", "").isalnum()
        assert text.endswith(".")
        assert text[0].isupper()


def test_everything_that_the_package_names_is_there() -> None:
    for name in appliance_sdk.wire.__all__:
        assert hasattr(appliance_sdk.wire, name)
