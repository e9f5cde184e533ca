"""Folders for what is started here: they go with this program, whatever ends it."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from appliance_sdk.harness.guard import GUARD


@contextlib.contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """A new temporary folder; gone afterwards, also when this program is killed."""
    folder = tempfile.mkdtemp(prefix=prefix)
    try:
        GUARD.take_folder(folder)
        yield Path(folder)
    finally:
        shutil.rmtree(folder)
        GUARD.release_folder(folder)
