"""`content`: bytes, modifiers, and what they refuse."""

from __future__ import annotations

import pytest

from reference_appliances.ids.keywords.content import parse_bytes
from reference_appliances.ids.payload import Payload
from reference_appliances.ids.problems import RuleError

from ..conftest import options, subject


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("abc", b"abc"),
        ("a|00 ff|b", b"a\x00\xffb"),
        ("|0d0A|", b"\r\n"),
        ('\\"\\\\\\;\\:', b'"\\;:'),
        ("|7c|", b"|"),
        ("é", "é".encode()),
        ("\udcff", b"\xff"),
    ],
)
def test_bytes(text: str, expected: bytes) -> None:
    assert parse_bytes(text, "content") == expected


@pytest.mark.parametrize("text", ["", "||", "a|0|", "a|zz|", "a|00", "\\n", "a\\"])
def test_bytes_that_are_refused(text: str) -> None:
    with pytest.raises(RuleError):
        parse_bytes(text, "content")


@pytest.mark.parametrize(
    ("body", "data", "found"),
    [
        ('content:"ab";', b"xaby", True),
        ('content:"AB";', b"xaby", False),
        ('content:"AB"; nocase;', b"xaby", True),
        ('content:!"ab";', b"xaby", False),
        ('content:!"ab";', b"xay", True),
        ('content:"ab"; offset:1;', b"abx", False),
        ('content:"ab"; offset:1;', b"xab", True),
        ('content:"ab"; depth:2;', b"abx", True),
        ('content:"ab"; depth:2;', b"xab", False),
        ('content:"ab"; offset:1; depth:3;', b"xxab", True),
        ('content:"ab"; offset:1; depth:3;', b"xxxab", False),
        ('content:"ab"; startswith;', b"abab", True),
        ('content:"ab"; startswith;', b"xab", False),
        ('content:"ab"; endswith;', b"abxab", True),
        ('content:"ab"; endswith;', b"abx", False),
        ('content:"ab"; startswith; endswith;', b"ab", True),
        ('content:"ab"; startswith; endswith;', b"abab", False),
        ('content:"a"; content:"b"; distance:0;', b"ba", False),
        ('content:"a"; content:"b"; distance:1;', b"ab", False),
        ('content:"a"; content:"b"; distance:1;', b"axb", True),
        ('content:"a"; content:"b"; distance:-2;', b"ba", True),
        ('content:"a"; content:"b"; within:1;', b"axb", False),
        ('content:"a"; content:"b"; within:2;', b"axb", True),
        ('content:"a"; content:"b"; distance:1; within:1;', b"axb", True),
        ('content:"a"; content:"b"; distance:1; within:1;', b"axxb", False),
        ('content:"a"; content:"b"; within:1;', b"axab", True),
        ('content:"a"; content:"b"; within:1; content:"c"; within:1;', b"abxabc", True),
        ('content:"a"; content:!"b"; within:1;', b"ab", False),
        ('content:"a"; content:!"b"; within:1;', b"abac", True),
        ('content:"a"; content:!"z"; content:"b"; distance:0;', b"ba", False),
        ('content:"ab"; rawbytes; fast_pattern:1,1;', b"ab", True),
        ('content:"ab"; fast_pattern:only;', b"ab", True),
    ],
)
def test_where_it_is_found(body: str, data: bytes, found: bool) -> None:
    assert Payload(options(body)).found_in(subject(data)) is found


@pytest.mark.parametrize(
    ("body", "data", "base", "found"),
    [
        ('content:"ab"; startswith;', b"ab", 5, False),
        ('content:"ab"; offset:6; depth:2;', b"xab", 5, True),
        ('content:"ab"; offset:5; depth:2;', b"xab", 5, False),
        ('content:"ab"; depth:7;', b"ab", 5, True),
        ('content:"ab"; depth:6;', b"ab", 5, False),
        ('content:"ab"; offset:9;', b"abxxab", 5, True),
        ('content:"ab"; within:7;', b"ab", 5, True),
        ('content:"ab"; within:6;', b"ab", 5, False),
    ],
)
def test_positions_count_from_the_beginning_of_the_stream(
    body: str, data: bytes, base: int, found: bool
) -> None:
    assert Payload(options(body)).found_in(subject(data, base=base)) is found


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("nocase;", "must follow a content"),
        ('content:"a"; flow:established; nocase;', "must follow a content"),
        ("content:a;", "double quotes"),
        ('content:"abc"; depth:2;', "it must be at least 3"),
        ('content:"a"; content:"abc"; within:2;', "it must be at least 3"),
        ('content:"a"; depth:2; depth:2;', "stands twice"),
        ('content:"a"; content:"b"; distance:1; offset:1;', "offset counts from the beginning"),
        ('content:"a"; offset:1; startswith;', "stands for offset and depth"),
        ('content:"a"; offset:65536;', "not in 0 to 65535"),
        ('content:"a"; nocase:1;', "takes no value"),
        ('content:"a"; fast_pattern:0,2;', "reaches beyond"),
        ('content:"a"; fast_pattern:1;', "offset,length"),
        ('content:"a"; fast_pattern; content:"b"; fast_pattern;', "stands twice"),
        ('content:!"a"; offset:1; fast_pattern;', "negated content with a position"),
        ('content:"a",nocase;', "double quotes"),
        ('content:"a",depth 3,"b";', "modifiers are keywords of their own"),
    ],
)
def test_what_is_refused(body: str, message: str) -> None:
    with pytest.raises(RuleError) as caught:
        options(body)
    assert message in str(caught.value)
