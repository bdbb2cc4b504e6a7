"""Facts from outside: what the article claims, and figures that others published. Each has a source and a date."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from functools import cache
from importlib import resources
from typing import Any

from kvlib.units import GB, GiB, KiB, MiB

_UNITS = {"1": 1, "B": 1, "kB": 10**3, "KiB": KiB, "MiB": MiB, "GB": GB, "GiB": GiB, "billion": 10**9}


@dataclass(frozen=True)
class Lesson:
    """A lesson of the course; `written` is False while its page is in preparation."""

    number: int
    topic: str
    question: str
    written: bool
    source: str
    as_of: date

    def __str__(self) -> str:
        return f"{self.number:02} {self.topic}" + ("" if self.written else " (in preparation)")


@dataclass(frozen=True)
class Claim:
    """One thing the article says, in our words, and the numbers of the lessons that settle it."""

    id: str
    says: str
    lessons: tuple[int, ...]
    source: str
    as_of: date

    @property
    def settled_in(self) -> str:
        """The lessons, as text: `01 KV cache, 02 one GPU (in preparation)`."""
        return ", ".join(str(lesson) for lesson in lessons() if lesson.number in self.lessons)


@dataclass(frozen=True)
class Range:
    """A row of the article's table: the memory it gives for `tokens` tokens, weights included, in bytes."""

    tokens: int
    low: int
    high: int
    source: str
    as_of: date

    def place(self, amount: int) -> str:
        """Where `amount` bytes lie: "below", "inside" or "above" the range, its edges inside."""
        return "below" if amount < self.low else "above" if amount > self.high else "inside"


@dataclass(frozen=True)
class Figure:
    """A published figure: `value` as it was printed, `printed` the unit beside it, `unit` the unit it is really in."""

    id: str
    what: str
    quantity: str
    value: str
    printed: str
    unit: str
    source: str
    as_of: date
    model: str = ""
    tokens: int = 0
    dtype: str = "bf16"
    differs: str = ""

    @property
    def amount(self) -> int:
        """The figure in base units (bytes, or weights), as far as its digits go."""
        return round(Fraction(self.value) * _UNITS[self.unit])

    @property
    def text(self) -> str:
        """The figure in the unit it is really in: `1.6 GiB`."""
        return self.express(self.amount)

    def express(self, amount: int) -> str:
        """`amount` bytes (or weights) in the unit and with the decimals of the figure, to compare the two."""
        decimals = len(self.value.partition(".")[2])
        unit = "" if self.unit == "1" else f" {self.unit}"
        return f"{amount / _UNITS[self.unit]:,.{decimals}f}{unit}"


@cache
def lessons() -> tuple[Lesson, ...]:
    """The lessons that settle the article's claims, in order."""
    return tuple(Lesson(**record) for record in _read("article.toml")["lessons"])


@cache
def article_claims() -> tuple[Claim, ...]:
    """What the article claims, in its order."""
    return tuple(Claim(**{**record, "lessons": tuple(record["lessons"])}) for record in _read("article.toml")["claims"])


@cache
def article_ranges() -> tuple[Range, ...]:
    """The article's table: memory for 200K, 1M and 2M tokens."""
    return tuple(
        Range(row["tokens"], row["low_gb"] * GB, row["high_gb"] * GB, row["source"], row["as_of"])
        for row in _read("article.toml")["ranges"]
    )


def published(*ids: str) -> tuple[Figure, ...]:
    """The published figures with these ids, in this order; all of them if none is named."""
    known = _figures()
    for name in ids:
        if name not in known:
            raise ValueError(f"id must be one of {', '.join(known)}; got {name!r}")
    return tuple(known[name] for name in ids or known)


@cache
def _figures() -> dict[str, Figure]:
    return {record["id"]: Figure(**record) for record in _read("published.toml")["figures"]}


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((resources.files("kvlib") / "data" / name).read_text(encoding="utf-8"))
