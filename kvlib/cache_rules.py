"""The rules of the providers' context caches, as dated records. The figures stand in data/context_caches.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fnmatch import fnmatchcase
from fractions import Fraction
from functools import cache
from importlib import resources
from typing import Any

from kvlib.bills import Price
from kvlib.hardware import Source

MATCHES = ("longest", "marks", "units", "object")


@dataclass(frozen=True)
class Minimum:
    """Fewest tokens that are cached, for the models of a pattern, by a page of the day `as_of`."""

    models: str
    tokens: int
    as_of: str
    source: Source
    unverified: bool = False


@dataclass(frozen=True)
class Factor:
    """A price as a multiple of that of new input, as documented for the models of a pattern."""

    models: str
    factor: Decimal
    as_of: str


@dataclass(frozen=True)
class Terms:
    """What a rule means for one model on one day; `read` and `write` are multiples of the price of new input.

    `storage` is USD per million tokens and hour; above `threshold` tokens the whole request is dearer.
    """

    minimum: int
    increment: int
    ttl: tuple[int, int] | None
    write: Fraction
    read: Fraction
    storage: Decimal | None
    threshold: int | None
    unverified: tuple[str, ...]


@dataclass(frozen=True)
class CacheRule:
    """How a provider caches prompts. The data file says what the fields mean."""

    name: str
    provider: str
    title: str
    match: str
    models: tuple[str, ...]
    renewed: bool
    write: str
    minimums: tuple[Minimum, ...]
    source: Source
    as_of: str
    increment: int = 1
    ttl: tuple[int, int] | None = None
    marks: int = 0
    lookback: int | None = None
    reads: tuple[Factor, ...] = ()
    writes: tuple[Factor, ...] = ()
    valid_from: date | None = None
    unverified: tuple[str, ...] = ()
    note: str = ""

    def fits(self, price: Price) -> bool:
        """Whether models of this price are cached by this rule."""
        return self.provider == price.provider and any(fnmatchcase(price.model, model) for model in self.models)

    def minimum(self, model: str, on: date | None = None) -> Minimum:
        """Fewest tokens that are cached on the day `on` (None: by the latest page)."""
        fitting = [each for each in self.minimums if fnmatchcase(model, each.models)]
        if not fitting:
            raise ValueError(f"model must be one of those that {self.name} has a minimum for; got {model!r}")
        same = [each for each in fitting if each.models == fitting[0].models]
        known = [each for each in same if on is None or each.as_of <= str(on)] or same[:1]
        return max(known, key=lambda each: each.as_of)

    def terms(self, price: Price, prompt_tokens: int = 0, on: date | None = None) -> Terms:
        """The rule for one model, at the rates of a prompt of `prompt_tokens` tokens.

        Raises:
            ValueError: if the rule is not one of this model, or did not exist on the day `on`.
        """
        if not self.fits(price):
            raise ValueError(f"rule must be one of rules_for({price.model!r}); got {self.name!r}")
        if on and self.valid_from and on < self.valid_from:
            raise ValueError(f"on must be {self.valid_from} or later, when {self.name} began; got {on}")
        rates, least = price.at(prompt_tokens), self.minimum(price.model, on)
        written = getattr(rates, self.write) if self.write != "cache_write_1h" or rates.cache_write_1h else None
        if written is None and self.write == "cache_write_1h" and self.match == "marks":
            raise ValueError(f"rule must be one with a recorded price; {price.model} has none for a cache of an hour")
        unsure = [*self.unverified, *(["minimum"] if least.unverified else [])]
        return Terms(
            minimum=least.tokens,
            increment=self.increment,
            ttl=self.ttl,
            write=Fraction(rates.input if written is None else written) / Fraction(rates.input),
            read=Fraction(rates.input if rates.cached_input is None else rates.cached_input) / Fraction(rates.input),
            storage=price.storage if self.match == "object" else None,
            threshold=price.threshold,
            unverified=tuple(dict.fromkeys(unsure)),
        )

    def __repr__(self) -> str:
        life = "no published life" if self.ttl is None else f"{self.ttl[0]:,} s"
        return f"{self.name}: {self.match}, {life}{', renewed by use' if self.renewed else ''} ({self.as_of})"


def cache_rules() -> tuple[CacheRule, ...]:
    """All rules, in the order of the data file."""
    return _rules()


def cache_rule(name: str | CacheRule) -> CacheRule:
    """The rule called `name`; a rule comes back as it is. A ValueError lists the names."""
    for rule in _rules():
        if name in (rule, rule.name):
            return rule
    if isinstance(name, CacheRule):
        return name
    raise ValueError(f"rule must be one of {', '.join(rule.name for rule in _rules())}; got {name!r}")


def rules_for(price: Price) -> tuple[CacheRule, ...]:
    """The rules by which prompts at this price can be cached; none where no cached price is known."""
    return tuple(rule for rule in _rules() if rule.fits(price) and price.rates.cached_input is not None)


@cache
def _rules() -> tuple[CacheRule, ...]:
    data = context_data()
    sources = {key: Source(**source) for key, source in data["sources"].items()}
    return tuple(_rule(dict(row), sources) for row in data["rules"])


def _rule(row: dict[str, Any], sources: dict[str, Source]) -> CacheRule:
    minimums = tuple(Minimum(**{**each, "source": sources[each["source"]]}) for each in row.pop("minimums"))
    factors: dict[str, Any] = {key: tuple(Factor(**each) for each in row.pop(key, ())) for key in ("reads", "writes")}
    lists: dict[str, Any] = {key: tuple(row.pop(key)) for key in ("models", "unverified", "ttl") if key in row}
    if row["match"] not in MATCHES:
        raise ValueError(f"match must be one of {', '.join(MATCHES)}; got {row['match']!r}")
    source = sources[row.pop("source")]
    return CacheRule(**row, **factors, **lists, minimums=minimums, source=source)


@cache
def context_data() -> dict[str, Any]:
    """data/context_caches.toml, with exact decimals."""
    text = (resources.files("kvlib") / "data" / "context_caches.toml").read_text(encoding="utf-8")
    return tomllib.loads(text, parse_float=Decimal)
