"""The documentation says what the code does: hooks, drop reasons, and every Python block runs."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from appliance_sdk.engine import EngineSettings
from appliance_sdk.engine.holding import HoldLimits
from appliance_sdk.engine.recording import RecordLimits
from appliance_sdk.engine.shared import SharedLimits
from appliance_sdk.flow.reassembly import StreamLimits
from appliance_sdk.harness import MISTAKES, ROUTE_REASONS
from appliance_sdk.server.config import ApplianceConfig, Drain, Events, Health, Listen, Log
from appliance_sdk.server.logs import LOG_EVENTS

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
GENERATED = [
    "hooks.md",
    "reference.md",
    "drop-reasons.md",
    "log-events.md",
    "load-balancer.md",
    "packet-walk.md",
    "inline-ids.svg",
    "transit.svg",
]


def generated_pages() -> dict[str, str]:
    path = Path(__file__).with_name("generate.py")
    spec = importlib.util.spec_from_file_location("generate", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    pages: dict[str, str] = module.pages()
    return pages


@pytest.mark.parametrize("name", GENERATED)
def test_the_page_is_what_the_code_says(name: str) -> None:
    page = (DOCS / name).read_text(encoding="utf-8")
    assert page == generated_pages()[name], "run: python tests/docs/generate.py"


def test_every_event_that_is_logged_is_in_the_list() -> None:
    logged = set()
    for path in (DOCS.parent / "appliance_sdk").rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        logged |= set(re.findall(r"\b_?log(?:_event)?\(\s*\"([\w.]+)\"", source))
    assert logged == set(LOG_EVENTS)


def test_every_setting_is_on_the_operations_page() -> None:
    page = (DOCS / "operations.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`(?:\[\w+\] )?(\w+)`", page))
    tables = [
        Listen,
        Health,
        Log,
        Events,
        Drain,
        StreamLimits,
        SharedLimits,
        HoldLimits,
        RecordLimits,
    ]
    structs = [ApplianceConfig, EngineSettings, *tables]
    names = {name for struct in structs for name in struct.__struct_fields__}
    others = "listen health log events drain engine stream shared hold record zones plugins path"
    assert names - documented <= set(others.split())


def blocks(page: Path) -> list[tuple[str, str]]:
    """Every Python block of a page, with the file name that its first line gives it."""
    found = re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.S | re.M)
    named = []
    for number, code in enumerate(found):
        name = re.match(r"# (\w+\.py)\n", code)
        named.append((name[1] if name else f"block_{number}.py", code))
    return named


@pytest.mark.anyone
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


@pytest.mark.parametrize("said", [ROUTE_REASONS, MISTAKES])
def test_every_mistake_is_on_the_harness_page(said: Mapping[str, str]) -> None:
    page = (DOCS / "harness.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| `(\w+)` \| (.*) \|$", page, re.M))
    assert set(said.items()) - rows == set()
