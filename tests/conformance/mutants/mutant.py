"""What a mutant is: an appliance that is wrong in one way, and the cases that must notice."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from mutants.right import Right

Kind = TypeVar("Kind", bound=type[Right])


BRACKET = "bracket"
"""Instead of case ids: it does not even return the plain packet that is sent before any case."""


class Mutant(NamedTuple):
    """One appliance that is wrong."""

    name: str
    wrong: str
    """In which way, in one sentence."""
    catches: tuple[str, ...]
    """The ids of the cases that must fail; every other case must pass."""
    origin: str
    """The implementation that does or did this, "" if it was made up."""
    make: type[Right]


MUTANTS: dict[str, Mutant] = {}
UNCAUGHT: dict[str, str] = {}
"""MUST cases that no mutant fails, with the reason."""


def mutant(*catches: str, origin: str = "") -> Callable[[Kind], Kind]:
    """Make a class a mutant that these cases catch; its docstring says what is wrong."""

    def register(kind: Kind) -> Kind:
        name = re.sub(r"(?<!^)(?=[A-Z])|(?<=[a-z])(?=\d\d)", "-", kind.__name__).lower()
        wrong = " ".join((kind.__doc__ or "").split())
        if name in MUTANTS or not wrong:
            raise ValueError(f"{name}: known already, or it does not say what is wrong")
        MUTANTS[name] = Mutant(name, wrong, catches, origin, kind)
        return kind

    return register
