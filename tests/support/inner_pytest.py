"""Another pytest in a process of its own: how a vendor's tests look from outside."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def pytest_command(*options: str) -> list[str]:
    """What a vendor types."""
    return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir=.", *options]


def run_pytest(folder: Path, *options: str, **files: str) -> subprocess.CompletedProcess[str]:
    """pytest in a folder, with these modules in it."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return subprocess.run(
        pytest_command(*options),
        cwd=folder,
        text=True,
        capture_output=True,
        timeout=100,
        env={**os.environ, "COLUMNS": "120"},
        check=False,
    )
