"""Folders for what is started here: they go with this program, whatever ends it."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from appliance_sdk.harness.guard import GUARD


@contextlib.contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """A new temporary folder; gone afterwards, also when this program is killed."""
    # Not by mkdtemp: whoever is interrupted in it has a folder that nobody knows.
    folder = Path(tempfile.gettempdir(), prefix + secrets.token_hex(8))
    try:
        GUARD.take_folder(str(folder))
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        if folder.exists():
            shutil.rmtree(folder)
        GUARD.release_folder(str(folder))
