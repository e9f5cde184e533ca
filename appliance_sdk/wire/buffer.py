"""What bytes from the wire may lie in."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import mmap

    Buffer: TypeAlias = bytes | bytearray | memoryview | mmap.mmap
    WritableBuffer: TypeAlias = bytearray | memoryview | mmap.mmap
else:
    Buffer = WritableBuffer = object
