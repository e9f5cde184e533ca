"""`pcre`: flags, relative expressions, Perl's syntax, and what `re` cannot do."""

from __future__ import annotations

import pytest

from reference_appliances.ids.payload import Payload
from reference_appliances.ids.problems import RuleError

from ..conftest import options, subject


@pytest.mark.parametrize(
    ("body", "data", "found"),
    [
        ('pcre:"/ab+c/";', b"xabbc", True),
        ('pcre:"/AB/";', b"ab", False),
        ('pcre:"/AB/i";', b"ab", True),
        ('pcre:"/a.b/";', b"a\nb", False),
        ('pcre:"/a.b/s";', b"a\nb", True),
        ('pcre:"/^b/";', b"a\nb", False),
        ('pcre:"/^b/m";', b"a\nb", True),
        ('pcre:"/a b/x";', b"ab", True),
        ('pcre:!"/ab/";', b"ab", False),
        ('pcre:!"/ab/";', b"ba", True),
        ('pcre:"/a\\/b\\;c/";', b"a/b;c", True),
        ('pcre:"/\\x00\\xff/";', b"\x00\xff", True),
        ('content:"a"; pcre:"/^b/R";', b"ab", True),
        ('content:"a"; pcre:"/^b/R";', b"axab", True),
        ('content:"a"; pcre:"/b/R";', b"ba", False),
        ('pcre:"/[0-9]/"; content:"z"; within:1;', b"1x2z", True),
        ('pcre:"/(?<name>a)(?P=name)/";', b"aa", True),
        ('pcre:"/b\\z/";', b"b\n", False),
        ('pcre:"/b\\Z/";', b"b\n", True),
        ('pcre:"/[[:digit:]]{2}/";', b"a12", True),
        ('pcre:"/a\\hb/";', b"a\tb", True),
        ('pcre:"/a/BO";', b"a", True),
        ("pcre:/a b/i;", b"A B", True),
        ("pcre:!/a/;", b"A", True),
        ('pcre:"/(a)(b)\\g{2}1/";', b"abb1", True),
        ('pcre:"/x*/"; content:"b"; within:1;', b"aab", True),
    ],
)
def test_what_is_found(body: str, data: bytes, found: bool) -> None:
    assert Payload(options(body)).found_in(subject(data)) is found


def test_where_a_streams_beginning_is_over_nothing_begins() -> None:
    payload = Payload(options('pcre:"/^b/";'))
    assert payload.found_in(subject(b"b"))
    assert not payload.found_in(subject(b"b", base=1))
    assert Payload(options('pcre:"/^b/m";')).found_in(subject(b"a\nb", base=1))
    assert not Payload(options('pcre:"/^b/R";')).found_in(subject(b"b", base=1))
    assert Payload(options('content:"a"; pcre:"/^b/R";')).found_in(subject(b"ab", base=1))
    assert Payload(options('pcre:"/a/"; content:"b"; within:1;')).found_in(subject(b"ab", base=1))


@pytest.mark.parametrize(
    ("body", "message", "unsupported"),
    [
        ("pcre:/a;", "between slashes", False),
        ('pcre:"/a/;', "double quotes", False),
        ('pcre:"a";', "between slashes", False),
        ('pcre:"/(/";', "does not compile", False),
        ('pcre:"/a/Z";', "unknown modifier `Z`", False),
        ('pcre:"/a/U";', "modifier `U` is not supported", True),
        ('pcre:"/(a)/, flow:x";', "captures are not supported", True),
        ('pcre:"/\\Qa\\E/";', "`\\Q` is not supported", True),
        ('pcre:"/[[:none:]]/";', "no class", False),
        ('pcre:"/' + "a" * 9000 + '/";', "is longer", False),
    ],
)
def test_what_is_refused(body: str, message: str, unsupported: bool) -> None:
    with pytest.raises(RuleError) as caught:
        options(body)
    assert message in str(caught.value)
    assert caught.value.unsupported is unsupported
