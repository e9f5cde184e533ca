"""The documentation says what the code does: hooks, drop reasons, and every Python block runs."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from appliance_sdk.engine import DROP_REASONS

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(DOCS.glob("*.md"))


def load_reference() -> object:
    path = Path(__file__).with_name("hook_reference.py")
    spec = importlib.util.spec_from_file_location("hook_reference", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_hook_reference_is_that_of_the_code() -> None:
    reference = load_reference()
    expected = reference.render()  # type: ignore[attr-defined]
    assert (DOCS / "hooks.md").read_text(encoding="utf-8") == expected, (
        "run: python tests/docs/hook_reference.py"
    )


def test_every_drop_reason_is_documented_with_its_meaning() -> None:
    page = (DOCS / "drop-reasons.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", page, flags=re.M))
    assert rows == dict(DROP_REASONS)


def blocks(page: Path) -> list[tuple[str, str]]:
    """Every Python block of a page, with the file name that its first line gives it."""
    found = re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.S | re.M)
    named = []
    for number, code in enumerate(found):
        name = re.match(r"# (\w+\.py)\n", code)
        named.append((name[1] if name else f"block_{number}.py", code))
    return named


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=lambda p: p.name)
def test_the_code_on_a_page_runs_and_its_tests_pass(page: Path, tmp_path: Path) -> None:
    for name, code in blocks(page):
        (tmp_path / name).write_text(code, encoding="utf-8")
    for name, _code in blocks(page):
        if not name.startswith("test_"):
            subprocess.run(
                [sys.executable, "-c", f"import {name.removesuffix('.py')}"],
                cwd=tmp_path,
                check=True,
            )
    if any(name.startswith("test_") for name, _ in blocks(page)):
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=."]
        run = subprocess.run(
            command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=100
        )
        assert run.returncode == 0, run.stdout


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*PAGES, DOCS.parent / "README.md"]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
