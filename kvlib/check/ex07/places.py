"""Exercises 6 and 7 are answered with places of sentences: how such a list is read, and rules are tried on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kvlib.check.answers import attempt, number_in, shown
from kvlib.check.base import Result, needs_function

Broken = tuple[str, str]  # the name of the mistake and what to say
Pick = Callable[..., list[int]]  # the learner's function: gives places, or raises `OddError` or `UntouchedError`


class UntouchedError(Exception):
    """The function is still the stub."""


class OddError(Exception):
    """What the function gave is no list of places; the message says why."""


@dataclass(frozen=True)
class Selection:
    """An exercise whose answer is a selection of sentences, by their places from 0 on.

    The rules are tried in order, up to the first broken. A rule calls the function as `pick(many, *inputs)`, `many`
    being the number of sentences, and gives the line to show, or the name of the mistake and what to say about it.
    """

    name: str
    rules: Sequence[Callable[[Pick], str | Broken]]

    def check(self, function: Any) -> Result:
        """Try the function. Nothing that it returns or raises becomes an error."""
        if not callable(function):
            return needs_function(self.name, function)
        kept: list[str] = []
        try:
            for rule in self.rules:
                found = rule(lambda many, *inputs: _picked(function, many, inputs))
                if not isinstance(found, str):
                    return self._wrong(kept, found[1], found[0])
                kept.append(f"  right  {found}")
        except UntouchedError:
            return Result((f"{self.name}: not done yet",), done=False)
        except OddError as odd:
            return self._wrong(kept, str(odd), None)
        return Result((f"{self.name}: right, {len(kept)} of {len(self.rules)} rules", *kept), ok=True)

    def _wrong(self, kept: Sequence[str], says: str, mistake: str | None) -> Result:
        head = f"{self.name}: not yet, {len(kept)} of {len(self.rules)} rules"
        return Result((head, *kept, f"  wrong  {says}"), mistake=mistake)


def _picked(function: Callable[..., Any], many: int, inputs: Sequence[Any]) -> list[int]:
    """The places that the function picks, in its order."""
    given: list[Any] = []

    def call(*copies: Any) -> int:
        given.append(function(*copies))
        return 0

    called = attempt(call, {str(place): each for place, each in enumerate(inputs)})
    if called.stub:
        raise UntouchedError
    if not given:
        raise OddError(called.text)
    return _read(given[0], many)


def _read(value: Any, many: int) -> list[int]:
    """The value as a list of places."""
    if value is None:
        raise OddError(number_in(None).text)
    if hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, list | tuple | range | set | frozenset):
        raise OddError(f"your function returned {shown(value)}: return a list of places, such as [0, 2]")
    places: list[int] = []
    for each in value:
        number = number_in(each).number
        if isinstance(each, str):
            raise OddError(f"your list holds {shown(each)}: return places, that is numbers, not sentences")
        if number is None or number != int(number) or number >= many:
            raise OddError(f"your list holds {shown(each)}: places are whole numbers, here from 0 to {many - 1}")
        places.append(int(number))
    if twice := [place for place in places if places.count(place) > 1]:
        raise OddError(f"place {twice[0]} stands in your list more than once")
    return places
