"""Address and port groups: lists, negation, ranges and variables, resolved to plain ranges."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping

from appliance_sdk import near_miss
from reference_appliances.ids.problems import RuleError
from reference_appliances.ids.ranges import Ranges, complement, merged, without
from reference_appliances.ids.rule import Addresses, Ports

_TOP = {4: (1 << 32) - 1, 6: (1 << 128) - 1}
_TOP_PORT = 65535
_DEEPEST = 16
"""How deep lists and variables may nest: a variable that names itself ends here."""
_PORTS = re.compile(r"([0-9]{0,5})\s*:\s*([0-9]{0,5})\Z")
_NAME = re.compile(r"\$[A-Za-z_][\w-]*\Z")


class Groups:
    """Resolves groups with one set of variables, each text once."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self.addresses: dict[str, Addresses] = {}
        self.ports: dict[str, Ports] = {}

    def address(self, text: str) -> str:
        """The name of an address group; "" if it is everyone. Raises RuleError."""
        if text == "any":
            return ""
        if text not in self.addresses:
            v4 = self._resolve(text, _network(4), _TOP[4])
            v6 = self._resolve(text, _network(6), _TOP[6])
            if not v4 and not v6:
                raise RuleError(f"the address group `{text}` matches nothing")
            if (v4, v6) == (((0, _TOP[4]),), ((0, _TOP[6]),)):
                return ""
            negated = self._is_negated(text)
            self.addresses[text] = Addresses(_packed(v4, 4), _packed(v6, 16), negated)
        return text

    def port(self, text: str) -> str:
        """The name of a port group; "" if it is all. Raises RuleError."""
        if text == "any":
            return ""
        if text not in self.ports:
            found = self._resolve(text, _ports, _TOP_PORT)
            if not found:
                raise RuleError(f"the port group `{text}` matches nothing")
            if found == ((0, _TOP_PORT),):
                return ""
            self.ports[text] = Ports(found)
        return text

    def _is_negated(self, text: str) -> bool:
        """Whether a `!` stands in the group or in a variable of it; it was resolved before."""
        names = re.findall(r"\$([A-Za-z_][\w-]*)", text)
        return "!" in text or any(self._is_negated(self._variables[name]) for name in names)

    def _resolve(
        self, text: str, atom: Callable[[str], Ranges], top: int, depth: int = 0
    ) -> Ranges:
        text = text.strip()
        if depth == 0 and _is_bare_list(text):
            text = f"[{text}]"
        if depth > _DEEPEST:
            raise RuleError("groups nest too deeply, or a variable names itself")
        if text.startswith("!"):
            inner = text[1:].strip()
            if inner == "any":
                raise RuleError("`!any` matches nothing")
            return complement(self._resolve(inner, atom, top, depth + 1), top)
        if text.startswith("["):
            return self._list(text, atom, top, depth)
        if text == "any":
            return ((0, top),)
        if text.startswith("$"):
            return self._resolve(self._variable(text), atom, top, depth + 1)
        return atom(text)

    def _list(self, text: str, atom: Callable[[str], Ranges], top: int, depth: int) -> Ranges:
        wanted: list[tuple[int, int]] = []
        unwanted: list[tuple[int, int]] = []
        only_negations = True
        for item in _items(text):
            if item.startswith("!"):
                if item[1:].strip() == "any":
                    raise RuleError("`!any` matches nothing")
                unwanted.extend(self._resolve(item[1:], atom, top, depth + 1))
            else:
                only_negations = False
                wanted.extend(self._resolve(item, atom, top, depth + 1))
        base = ((0, top),) if only_negations else merged(wanted)
        return without(base, merged(unwanted), top)

    def _variable(self, text: str) -> str:
        if not _NAME.match(text):
            raise RuleError(f"`{text}` is no variable")
        value = self._variables.get(text[1:])
        if value is None:
            hint = near_miss(text[1:], list(self._variables))
            raise RuleError(f"no variable `{text}`", hint=hint)
        return value


def _is_bare_list(text: str) -> bool:
    """Whether it is a list without brackets: Suricata takes `80,443` too."""
    depth = 0
    for char in text:
        depth += (char == "[") - (char == "]")
        if char == "," and depth == 0:
            return True
    return False


def _items(text: str) -> Iterator[str]:
    """The items of a bracketed list, nested lists whole."""
    if not text.endswith("]"):
        raise RuleError(f"`{text[:40]}` has no closing bracket")
    depth, start = 0, 1
    for at, char in enumerate(text):
        if char == "[":
            depth += 1
        elif char == "]":
            depth -= 1
            if depth == 0 and at != len(text) - 1:
                raise RuleError(f"`{text[:40]}` closes too early")
        if (char == "," and depth == 1) or (char == "]" and depth == 0):
            item = text[start:at].strip()
            if not item:
                raise RuleError(f"`{text[:40]}` has an empty item")
            yield item
            start = at + 1
    if depth:
        raise RuleError(f"`{text[:40]}` has unbalanced brackets")


def _network(version: int) -> Callable[[str], Ranges]:
    def atom(text: str) -> Ranges:
        try:
            if "-" in text:
                low, high = (ipaddress.ip_address(end.strip()) for end in text.split("-", 1))
                if low.version != high.version or int(low) > int(high):
                    raise ValueError(text)
                found, bounds = low.version, (int(low), int(high))
            else:
                net = ipaddress.ip_network(text, strict=False)
                found = net.version
                bounds = int(net.network_address), int(net.broadcast_address)
        except ValueError:
            hint = f"did you mean `${text}`?" if text.isupper() else ""
            raise RuleError(f"`{text[:60]}` is no address", hint=hint) from None
        return (bounds,) if found == version else ()

    return atom


def _ports(text: str) -> Ranges:
    match = _PORTS.match(text)
    if match:
        low, high = int(match[1] or 0), int(match[2] or _TOP_PORT)
    elif text.isascii() and text.isdigit():
        low = high = int(text[:7])
    else:
        hint = f"did you mean `${text}`?" if text.isupper() else ""
        raise RuleError(f"`{text[:60]}` is no port", hint=hint)
    if not 0 <= low <= high <= _TOP_PORT:
        raise RuleError(f"`{text[:60]}` is no port range")
    return ((low, high),)


def _packed(ranges: Ranges, size: int) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((low.to_bytes(size, "big"), high.to_bytes(size, "big")) for low, high in ranges)
