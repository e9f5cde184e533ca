"""The cases as JSON files, for unit tests in any language: what is sent, what must come of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from appliance_sdk.conformance.case import FEATURE_NAMES, Ability, Case, NotConformant, all_cases
from appliance_sdk.conformance.features import Features
from appliance_sdk.conformance.recording import LeftOut, Recorder, Step
from appliance_sdk.conformance.report import CONTRACT
from appliance_sdk.conformance.wires import MemoryWire
from appliance_sdk.errors import HarnessError

FORMAT = "gwlb-vectors-1"
INDEX = "index.json"
_NOT_IN_A_FILE = frozenset((Ability.SOCKETS, Ability.HEALTH, Ability.PROCESS, Ability.ALERTS))


class Vector(msgspec.Struct, frozen=True):
    """One case: its steps are taken in order, by an appliance that has just started."""

    id: str
    level: str
    """MUST, SHOULD or MAY (RFC 2119)."""
    profile: str
    features: tuple[str, ...]
    """What the appliance must be able to do for this to be asked of it."""
    requirement: str
    reference: str
    steps: tuple[Step, ...]


class VectorFile(msgspec.Struct, frozen=True):
    """The vectors of one topic."""

    format: str
    contract: str
    vectors: tuple[Vector, ...]


class Index(msgspec.Struct, frozen=True):
    """What the files have in common."""

    format: str
    contract: str
    origins: tuple[str, ...]
    """The load balancer's subnets: what comes from elsewhere is a stranger's."""
    files: tuple[str, ...]
    left_out: dict[str, str]
    """Why a case that a file could hold is in none, by its id."""


def record(case: Case) -> Vector:
    """A case as a vector. Raises LeftOut."""
    if _NOT_IN_A_FILE & set(case.needs):
        raise LeftOut("it needs sockets, a process or its reports")
    recorder = Recorder(Features(), f"0 {case.id}")
    try:
        case.ask(recorder)
    except NotConformant as error:
        raise LeftOut(f"it judges what an appliance makes itself: {error}") from None
    if not recorder.steps:
        raise LeftOut("it sends nothing")
    features = tuple(name for name in case.needs if name in FEATURE_NAMES)
    return Vector(
        case.id,
        case.level,
        case.profile,
        features,
        case.requirement,
        case.reference,
        tuple(recorder.steps),
    )


def vector_files() -> dict[str, bytes]:
    """Every file by its name: one for each topic, and an index."""
    vectors: dict[str, list[Vector]] = {}
    left_out: dict[str, str] = {}
    for case in all_cases().values():
        try:
            vector = record(case)
        except LeftOut as reason:
            if not _NOT_IN_A_FILE & set(case.needs):
                left_out[case.id] = str(reason)
            continue
        vectors.setdefault(case.id.partition("/")[0] + ".json", []).append(vector)
    index = Index(FORMAT, CONTRACT, MemoryWire.origins, tuple(sorted(vectors)), left_out)
    files = {name: _text(vectors[name]) for name in index.files}
    return {**files, INDEX: msgspec.json.format(msgspec.json.encode(index), indent=1) + b"\n"}


def write_vectors(folder: Path) -> Mapping[str, bytes]:
    """Write every file to a folder; vectors of other topics go away. Raises HarnessError."""
    files = vector_files()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.json"):
            if old.name not in files and old.read_bytes().startswith(_head()):
                old.unlink()
        for name, text in files.items():
            (folder / name).write_bytes(text)
    except OSError as error:
        raise HarnessError(f"{error.filename or folder}: {error.strerror}") from None
    return files


def vectors_schema() -> bytes:
    """The JSON schema of a file of vectors."""
    schema = msgspec.json.encode(msgspec.json.schema(VectorFile))
    return msgspec.json.format(schema, indent=2) + b"\n"


def _text(vectors: list[Vector]) -> bytes:
    """JSON with a step on each line: to read, to compare, and for programs without a parser."""
    return b"\n".join(_lines(vectors)) + b"\n"


def _lines(vectors: list[Vector]) -> Iterator[bytes]:
    encode = msgspec.json.encode
    yield _head() + b' "vectors": ['
    for vector, more in zip(vectors, [b","] * (len(vectors) - 1) + [b""], strict=True):
        yield b"{"
        for name in Vector.__struct_fields__[:-1]:
            yield b" " + encode(name) + b": " + encode(getattr(vector, name)) + b","
        yield b' "steps": ['
        yield b",\n".join(b"  " + encode(step) for step in vector.steps)
        yield b" ]}" + more
    yield b"]}"


def _head() -> bytes:
    text = msgspec.json.encode({"format": FORMAT, "contract": CONTRACT})
    return text[:-1] + b","
