"""Yen and euros in dollars, at a rate that has a date. Nothing here knows "today's" rate: the rate is an argument."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib import resources

from kvlib.ranges import POSITIVE, Amount, Estimate, amount, combine

CURRENCIES = ("EUR", "JPY", "USD")


@dataclass(frozen=True)
class Rate:
    """A quotation as markets print it: one `base` is `value` of `quote`. USD/JPY 151.16 is 151.16 yen for a dollar."""

    base: str
    quote: str
    value: float
    as_of: date
    source: str = ""
    unverified: bool = False
    note: str = ""

    def __post_init__(self) -> None:
        for side in (self.base, self.quote):
            _known(side)
        if (self.base == "USD") == (self.quote == "USD"):
            raise ValueError(f"a rate must be between USD and another currency; got {self.base}/{self.quote}")
        if amount("value of the rate", self.value, POSITIVE).inputs:
            raise ValueError(f"value of the rate must be one number, as quoted on its date; got {self.value!r}")

    @property
    def currency(self) -> str:
        """The side that is not the dollar."""
        return self.quote if self.base == "USD" else self.base

    @property
    def usd(self) -> float:
        """Dollars for one unit of the currency."""
        return 1 / self.value if self.base == "USD" else self.value

    def __str__(self) -> str:
        return f"{self.base}/{self.quote} {self.value:g} ({self.as_of}{', unverified' if self.unverified else ''})"


def to_usd(money: Amount, currency: str, rate: Rate | None = None, *, label: str = "") -> Estimate:
    """Dollars for `money` in `currency`: 5,000,000 JPY at USD/JPY 151.16 are 33,078 USD.

    Args:
        money: zero or more, a number or a range.
        currency: "JPY", "EUR" or "USD".
        rate: a Rate of this currency; dollars need none.
        label: the name of the input in a tornado, if `money` is a range.

    Raises:
        ValueError: if the currency is unknown, or the rate is missing or of another currency.
    """
    factor = _usd_for_one(currency, rate)
    return combine(lambda value: value * factor, amount("money", money, label=label or currency), unit="USD")


def from_usd(usd: Amount, currency: str, rate: Rate | None = None, *, label: str = "") -> Estimate:
    """`usd` dollars in `currency`, the way back from `to_usd`; arguments and errors are the same."""
    factor = _usd_for_one(currency, rate)
    return combine(lambda value: value / factor, amount("usd", usd, label=label or "USD"), unit=currency)


def _usd_for_one(currency: str, rate: Rate | None) -> float:
    _known(currency)
    if currency == "USD" and rate is None:
        return 1.0
    if rate is None or rate.currency != currency:
        wanted = "None" if currency == "USD" else f"a rate of {currency}, such as exchange_rate({currency!r}, on=...)"
        raise ValueError(f"rate must be {wanted}; got {rate}")
    return rate.usd


def exchange_rate(currency: str, on: date) -> Rate:
    """The last recorded rate of `currency` on or before the day `on`, out of data/cost_anchors.toml.

    Raises:
        ValueError: if the currency is unknown or the dollar itself, or `on` lies before the first record.
    """
    _known(currency)
    known = [rate for rate in exchange_rates() if rate.currency == currency]
    before = [rate for rate in known if rate.as_of <= on]
    if not known:
        raise ValueError(f"currency must be one with a rate, EUR or JPY; got {currency!r}")
    if not before:
        raise ValueError(f"on must be {known[0].as_of} or later, the first record of {currency}; got {on}")
    return before[-1]


@cache
def exchange_rates() -> tuple[Rate, ...]:
    """The recorded rates, oldest first, each with its source."""
    text = (resources.files("kvlib") / "data" / "cost_anchors.toml").read_text(encoding="utf-8")
    data = tomllib.loads(text)
    titles = {key: source["title"] for key, source in data["sources"].items()}
    rates = [Rate(**{**record, "source": titles[record["source"]]}) for record in data["exchange_rates"]]
    return tuple(sorted(rates, key=lambda rate: rate.as_of))


def _known(currency: str) -> None:
    if currency not in CURRENCIES:
        raise ValueError(f"currency must be one of {', '.join(CURRENCIES)}; got {currency!r}")
