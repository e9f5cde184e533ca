"""The guide to the conformance suite, followed to the letter: from nothing to conformant, twice."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.anyone

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "testing-your-appliance.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.S | re.M)


def follow(folder: Path, block: str, timeout_s: float = 200) -> str:
    """Run a block of shell as a reader would, in the environment that has the SDK."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", block],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def uncounted(text: str) -> str:
    """A report without its counts: new cases are no reason to write the page anew."""
    return re.sub(r"\d+/\d+|\(\d+", "N", text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of one's own, with the clone beside it."""
    (tmp_path / "appliance-sdk").symlink_to(ROOT)
    own = tmp_path / "own"
    own.mkdir()
    return own


@pytest.mark.timeout(300)
def test_a_newcomer_comes_to_a_conformant_appliance_in_python(folder: Path) -> None:
    for code in blocks("python"):
        name = re.match(r"# (\w+\.py)\n", code)
        assert name is not None
        (folder / name[1]).write_text(code, encoding="utf-8")
    _install, memory, udp, tests, *_ = blocks("sh")
    shown = blocks("text")[0]
    assert uncounted(follow(folder, memory)) == uncounted(shown)
    out = follow(folder, udp)
    assert out.splitlines()[-1] == "CONFORMANT"
    assert " passed" in follow(folder, tests)


@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_newcomer_comes_to_a_conformant_program_in_c(folder: Path) -> None:
    _, _, _, _, c, broken, known, ci = blocks("sh")
    out = follow(folder, c)
    for line in blocks("text")[1].splitlines():
        assert uncounted(line) in uncounted(out)
    assert out.splitlines()[-1] == "CONFORMANT"
    assert (folder / "results" / "fragment-tiny-first.pcap").exists()
    seen = follow(folder, broken)
    for line in blocks("text")[2].splitlines():
        assert line.rstrip("…") in seen
    assert "went to UDP port" in seen
    assert follow(folder, known).splitlines()[-1] == "CONFORMANT"
    assert follow(folder, ci).splitlines()[-1] == "nothing got worse"
