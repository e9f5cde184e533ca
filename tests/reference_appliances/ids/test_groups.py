"""Address and port groups: what they match, and what is refused."""

from __future__ import annotations

import ipaddress

import pytest

from reference_appliances.ids.groups import Groups
from reference_appliances.ids.header import AddressSet
from reference_appliances.ids.problems import RuleError
from reference_appliances.ids.ranges import RangeSet

VARIABLES = {
    "HOME": "[10.0.0.0/8,fd00::/8]",
    "OUTSIDE": "!$HOME",
    "WEB": "[80,8000:8080]",
    "LOOP": "[$LOOP2]",
    "LOOP2": "$LOOP",
}


def has_address(group: str, address: str) -> bool:
    groups = Groups(VARIABLES)
    name = groups.address(group)
    packed = ipaddress.ip_address(address).packed
    return not name or packed in AddressSet(groups.addresses[name])


def has_port(group: str, port: int) -> bool:
    groups = Groups(VARIABLES)
    name = groups.port(group)
    return not name or port in RangeSet(groups.ports[name].ranges)


@pytest.mark.parametrize(
    ("group", "inside", "outside"),
    [
        ("10.0.0.1", "10.0.0.1", "10.0.0.2"),
        ("10.0.0.9/8", "10.200.0.1", "11.0.0.1"),
        ("10.0.0.0/255.255.0.0", "10.0.3.1", "10.1.0.1"),
        ("10.0.0.5-10.0.0.7", "10.0.0.6", "10.0.0.8"),
        ("2001:db8::/32", "2001:db8::1", "2001:db9::1"),
        ("!10.0.0.0/8", "11.0.0.1", "10.0.0.1"),
        ("!10.0.0.0/8", "2001:db8::1", "10.0.0.1"),
        ("[10.0.0.0/8, ![10.1.0.0/16, 10.2.0.0/16]]", "10.3.0.1", "10.2.0.1"),
        ("[10.0.0.0/8,!10.1.0.0/16,[192.0.2.1,192.0.2.2]]", "192.0.2.2", "10.1.0.1"),
        ("[!10.1.0.0/16,!10.2.0.0/16]", "10.3.0.1", "10.1.0.1"),
        ("$HOME", "fd00::1", "192.0.2.1"),
        ("$OUTSIDE", "192.0.2.1", "fd00::1"),
        ("[$HOME,!10.1.1.1]", "10.1.1.2", "10.1.1.1"),
        ("!$OUTSIDE", "10.0.0.1", "192.0.2.1"),
        ("10.0.0.1,[10.0.0.2]", "10.0.0.2", "10.0.0.3"),
    ],
)
def test_addresses(group: str, inside: str, outside: str) -> None:
    assert has_address(group, inside)
    assert not has_address(group, outside)


@pytest.mark.parametrize(
    ("group", "inside", "outside"),
    [
        ("80", 80, 81),
        ("1024:", 65535, 1023),
        (":1024", 0, 1025),
        ("80:90", 90, 91),
        ("!80", 81, 80),
        ("[80:90,!85]", 84, 85),
        ("$WEB", 8010, 81),
        ("[$WEB,!8010]", 8011, 8010),
        ("[!80,!443]", 81, 443),
        ("!80,!443", 81, 443),
    ],
)
def test_ports(group: str, inside: int, outside: int) -> None:
    assert has_port(group, inside)
    assert not has_port(group, outside)


@pytest.mark.parametrize("group", ["any", "0.0.0.0/0", "[any]"])
def test_everyone(group: str) -> None:
    assert has_address(group, "192.0.2.1")


def test_a_negation_is_remembered_also_through_variables() -> None:
    groups = Groups(VARIABLES)
    found = {name: groups.addresses[groups.address(name)].negated for name in ("$HOME", "$OUTSIDE")}
    assert found == {"$HOME": False, "$OUTSIDE": True}


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ("!any", "matches nothing"),
        ("[10.0.0.1,!10.0.0.1]", "matches nothing"),
        ("[10.0.0.1", "no closing bracket"),
        ("[10.0.0.1,]", "empty item"),
        ("[]", "empty item"),
        ("[[10.0.0.1]", "unbalanced"),
        ("[10.0.0.1]]", "closes too early"),
        ("$HOMES", "did you mean `HOME`?"),
        ("HOME_NET", "did you mean `$HOME_NET`?"),
        ("$LOOP", "names itself"),
        ("[" * 40 + "10.0.0.1" + "]" * 40, "nest too deeply"),
        ("300.0.0.1", "is no address"),
        ("10.0.0.9-10.0.0.1", "is no address"),
        ("$", "is no variable"),
    ],
)
def test_what_is_refused_as_addresses(group: str, message: str) -> None:
    with pytest.raises(RuleError, match=r".*") as caught:
        Groups(VARIABLES).address(group)
    assert message in str(caught.value)


@pytest.mark.parametrize("group", ["65536", "90:80", "http", "-1", "80-90", "99999999999999999999"])
def test_what_is_refused_as_ports(group: str) -> None:
    with pytest.raises(RuleError):
        Groups(VARIABLES).port(group)
