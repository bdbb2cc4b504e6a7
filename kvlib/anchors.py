"""Recorded figures about cost: buying, power, rooms, rents, energy, each with its source and date.

The figures stand in data/cost_anchors.toml. An unverified one may be computed with, but never checks anything.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from functools import cache
from importlib import resources
from typing import Any

from kvlib.currency import exchange_rate, to_usd
from kvlib.hardware import Source
from kvlib.owning import Ownership
from kvlib.ranges import Amount, Range


@dataclass(frozen=True)
class Anchor:
    """One recorded figure: a `value`, or `low` and `high`, in `unit`. `as_of` is as exact as the source is."""

    id: str
    what: str
    unit: str
    source: Source
    as_of: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    unverified: bool = False

    @property
    def amount(self) -> float | Range:
        """The figure as an input: a number, or a Range."""
        if self.value is not None:
            return self.value
        assert self.low is not None and self.high is not None, f"{self.id} has neither value nor range"
        return Range(self.low, self.high)

    def __str__(self) -> str:
        figure = f"{self.value:,g}" if self.value is not None else f"{self.low:,g} to {self.high:,g}"
        return f"{self.what}: {figure} {self.unit} ({self.as_of}{', unverified' if self.unverified else ''})"


@dataclass(frozen=True)
class OwnershipRow:
    """A row of a published table: kW all-in, and USD per GPU-hour owned in two ways, or rented for three years.

    `placeholder_of` names the GPU whose figures times 1.2 stand in, as the publisher says.
    """

    gpu: str
    kilowatts: float
    hyperscaler: float
    neocloud: float
    rent_3y: float
    source: Source
    as_of: str
    placeholder_of: str = ""


@dataclass(frozen=True)
class Energy:
    """A measured power and speed, and the joules per token that follow."""

    id: str
    what: str
    tokens_per_second: float
    watts: float
    joules_per_token: float
    source: Source
    as_of: str


@cache
def anchors() -> tuple[Anchor, ...]:
    """All recorded figures, in the order of the data file."""
    return tuple(Anchor(**record) for record in records("anchors"))


def anchor(id: str) -> Anchor:
    """The figure called `id`; a ValueError suggests the nearest ids and lists all of them."""
    known = {item.id: item for item in anchors()}
    if id not in known:
        near = get_close_matches(str(id), known, n=3)
        hint = f" (did you mean {' or '.join(near)}?)" if near else ""
        raise ValueError(f"id must be one of {', '.join(known)}; got {id!r}{hint}")
    return known[id]


@cache
def ownership_table() -> tuple[OwnershipRow, ...]:
    """The published cost of ownership, one row for each GPU."""
    return tuple(OwnershipRow(**record) for record in records("ownership_table"))


@cache
def energy() -> tuple[Energy, ...]:
    """The measured energies."""
    return tuple(Energy(**record) for record in records("energy"))


def owner(id: str = "honest") -> Ownership:
    """An owner of one H100 to start from: "article" (5 million yen, points) or "honest" (ranges, part assumed).

    A ValueError names the ids.
    """
    known = {record["id"]: record for record in records("owners")}
    if id not in known:
        raise ValueError(f"id must be one of {', '.join(known)}; got {id!r}")
    terms: dict[str, Any] = {name: _amount(value) for name, value in known[id].items() if name not in _NOT_TERMS}
    if "price_jpy" in terms:
        price = to_usd(terms.pop("price_jpy"), "JPY", exchange_rate("JPY", date.fromisoformat(known[id]["as_of"])))
        terms["price_usd"] = price
    return Ownership(**terms)


def assumed(id: str = "honest") -> tuple[str, ...]:
    """The arguments of `owner(id)` for which no source was found."""
    return next(tuple(record.get("assumed", ())) for record in records("owners") if record["id"] == id)


_NOT_TERMS = {"id", "what", "assumed", "source", "as_of", "unverified"}


def _amount(value: Any) -> Amount:
    return tuple(value) if isinstance(value, list) else float(value)


def records(kind: str) -> list[dict[str, Any]]:
    """The records of one kind, with their Source in place of its key; `as_of` of a month is "2025-10"."""
    data = _data()
    sources = {key: Source(**source) for key, source in data["sources"].items()}
    rows = data[kind] if isinstance(data[kind], list) else [data[kind]]
    return [{**row, "source": sources[row["source"]], "as_of": str(row["as_of"])} for row in rows]


@cache
def _data() -> dict[str, Any]:
    text = (resources.files("kvlib") / "data" / "cost_anchors.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
