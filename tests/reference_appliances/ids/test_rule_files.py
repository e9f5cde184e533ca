"""Files: lines that go on, comments, patterns, what is collected, and hostile files."""

from __future__ import annotations

import contextlib
import gzip
from pathlib import Path

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance_sdk import ConfigError
from reference_appliances.ids.classification import BUILT_IN
from reference_appliances.ids.groups import Groups
from reference_appliances.ids.parser import parse_rule
from reference_appliances.ids.rule import Ruleset
from reference_appliances.ids.rule_files import Reading, load_rules, read_rules, rules_in
from reference_appliances.ids.settings import VARIABLES

GOOD = "alert tcp any any -> any any (sid:{};)"
BAD = "alert http any any -> any any (sid:{};)"


def read(*paths: Path | str) -> Reading:
    return read_rules([str(p) for p in paths], Groups(VARIABLES), BUILT_IN)


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_comments_empty_lines_and_lines_that_go_on(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.rules",
        "# a comment \\",
        "",
        "alert tcp any any -> \\",
        "   any any ( \\",
        "   sid:1;)",
        "#" + GOOD.format(2),
        "  " + GOOD.format(3) + "\r",
    )
    rules = read(path).ruleset.rules
    assert [(rule.sid, rule.line) for rule in rules] == [(1, 3), (3, 7)]


def test_patterns_and_packed_files(tmp_path: Path) -> None:
    write(tmp_path / "a.rules", GOOD.format(1))
    write(tmp_path / "b.rules", GOOD.format(2))
    (tmp_path / "c.rules.gz").write_bytes(gzip.compress(GOOD.format(3).encode()))
    reading = read(tmp_path / "*.rules", tmp_path / "a.rules", tmp_path / "c.rules.gz")
    assert [rule.sid for rule in reading.ruleset.rules] == [1, 2, 3]


def test_a_newer_revision_replaces_an_older_one_and_the_same_is_a_mistake(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.rules",
        'alert ip any any -> any any (msg:"one"; sid:1; rev:1;)',
        'alert ip any any -> any any (msg:"two"; sid:1; rev:2;)',
        'alert ip any any -> any any (msg:"again"; sid:1; rev:2;)',
        'alert ip any any -> any any (msg:"old"; sid:1; rev:1;)',
        'alert ip any any -> any any (msg:"other"; sid:1; gid:2;)',
    )
    reading = read(path)
    assert [rule.message for rule in reading.ruleset.rules] == ["two", "other"]
    (problem,) = reading.problems
    assert "a.rules:3: sid 1: `sid`: is defined in" in str(problem)


def test_every_rule_that_cannot_be_used_is_named_up_to_a_bound(tmp_path: Path) -> None:
    path = write(tmp_path / "a.rules", GOOD.format(999), *(BAD.format(n) for n in range(1, 31)))
    with pytest.raises(ConfigError) as caught:
        load_rules([str(path)], Groups(VARIABLES), BUILT_IN, skip_unsupported=False)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("30 rules cannot be used")
    assert "a.rules:2: sid 1: `protocol http`: the protocol `http` is not supported" in lines[1]
    assert lines[-1] == "  and 10 more: `appliance ids check` counts them"
    assert len(lines) == 22


def test_or_left_out_and_named_all(tmp_path: Path) -> None:
    path = write(tmp_path / "a.rules", GOOD.format(999), *(BAD.format(n) for n in range(1, 31)))
    ruleset = load_rules([str(path)], Groups(VARIABLES), BUILT_IN, skip_unsupported=True)
    assert len(ruleset.rules) == 1
    assert len(ruleset.problems) == 30


def test_a_ruleset_crosses_processes_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "a.rules"
    path.write_bytes(
        b'alert tcp $HOME_NET any -> !$HOME_NET [80,!81] (msg:"\xff\xe9"; content:"\xff|00|"; '
        b'nocase; pcre:"/\xff/Ri"; dsize:>3; flags:S+,CE; flow:to_server; metadata:\xff \xfe; '
        b"sid:1;)\n"
    )
    ruleset = read(path).ruleset
    packed = msgpack.packb(msgspec.to_builtins(ruleset, builtin_types=(bytes,)))
    plain = msgpack.unpackb(packed, strict_map_key=False)
    assert msgspec.convert(plain, Ruleset, builtin_types=(bytes,)) == ruleset
    assert ruleset.rules[0].options[0].pattern == b"\xff\x00"  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["none.rules", "*.none", ".", "bad.gz", "cut.gz"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "bad.gz").write_bytes(b"no gzip")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"alert " * 1000)[:30])
    with pytest.raises(ConfigError) as caught:
        read(tmp_path / name)
    assert str(tmp_path) in str(caught.value)


@given(st.binary(max_size=300))
def test_garbage_is_rules_or_problems_never_another_error(data: bytes) -> None:
    groups = Groups(VARIABLES)
    for text in rules_in(data.decode("utf-8", "surrogateescape").split("\n"), "garbage"):
        with contextlib.suppress(ConfigError):
            parse_rule(text.text, groups, BUILT_IN, path=text.path, line=text.line)


def test_a_file_of_garbage_and_one_that_never_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.rules"
    path.write_bytes(bytes(range(256)) * 50 + b"\n" + b"alert \\\n" * 50_000 + b"\\")
    reading = read(path)
    assert not reading.ruleset.rules
    assert reading.problems
    for problem in reading.problems:
        assert len(str(problem)) < 500
        str(problem).encode()
