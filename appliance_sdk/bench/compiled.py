"""Programs in C: compiled from `helper` when they are wanted, where there is a compiler."""

from __future__ import annotations

import shutil
import subprocess
from importlib import resources
from pathlib import Path

from appliance_sdk.errors import HarnessError


def build(folder: Path, program: str) -> Path:
    """Compile helper/PROGRAM.c into a folder: the executable. Raises HarnessError."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise HarnessError("there is no C compiler: install gcc")
    for file in (resources.files("appliance_sdk.bench") / "helper").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    done = subprocess.run(
        [compiler, "-O2", "-o", str(folder / program), str(folder / f"{program}.c")],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line]
        raise HarnessError(f"{compiler} refuses {program}.c: {(lines or [''])[0]}")
    return folder / program
