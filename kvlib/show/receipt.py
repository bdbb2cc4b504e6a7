"""The first receipt: model + context -> bytes -> cards -> money. Pure functions; the panel only draws what they say.

It is a rough count on purpose: every byte of a card is taken as usable, and one user pays for whole cards. The lessons
that follow replace each of these steps by a better one.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from kvlib.model import Model
from kvlib.show.svg import Picture, cards, plural
from kvlib.show.tables import Html, table
from kvlib.units import GB, size, tokens, usd

CARD_BYTES = 80 * GB  # what the label of an H100 says
HOURS_PER_MONTH = 730  # 8,760 hours of a year / 12
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)


@dataclass(frozen=True)
class Price:
    """What one hour of one GPU cost to rent, when, and who says so (data/rough_prices.toml)."""

    name: str
    gpu: str
    usd_per_gpu_hour: float
    terms: str
    as_of: str
    source: str


@cache
def rough_prices() -> tuple[Price, ...]:
    """The dated rents of one H100, oldest first."""
    records = tomllib.loads((files("kvlib") / "data" / "rough_prices.toml").read_text(encoding="utf-8"))
    return tuple(sorted((Price(name, **record) for name, record in records.items()), key=lambda price: price.as_of))


@dataclass(frozen=True)
class Receipt:
    """One conversation of `tokens` tokens with `model`: bytes, 80 GB cards, and what renting the cards costs."""

    model: Model
    tokens: int
    weight_dtype: str
    kv_dtype: str
    weight_bytes: int
    cache_bytes: int

    @property
    def total_bytes(self) -> int:
        """Weights and KV cache; no activations, no engine."""
        return self.weight_bytes + self.cache_bytes

    @property
    def cards(self) -> int:
        """Cards of 80 GB that hold `total_bytes`, rounded up."""
        return -(-self.total_bytes // CARD_BYTES)

    @property
    def trained(self) -> bool:
        """False if the context is longer than the model was made for."""
        return self.model.max_context is None or self.tokens <= self.model.max_context

    def usd_per_hour(self, price: Price) -> float:
        """USD for one hour of all cards."""
        return self.cards * price.usd_per_gpu_hour

    def usd_per_month(self, price: Price) -> float:
        """USD for a month of 730 hours of all cards."""
        return HOURS_PER_MONTH * self.usd_per_hour(price)


def receipt(model: Model, tokens: int, weight_dtype: str = "bf16", kv_dtype: str = "bf16") -> Receipt:
    """The receipt of one conversation.

    Args:
        model: a `kv.Model`.
        tokens: length of the conversation, a whole number.
        weight_dtype: format of every weight, such as "bf16" or "fp8".
        kv_dtype: format of keys and values.

    Raises:
        ValueError: if tokens is negative or not whole, or a dtype is unknown.
    """
    weights, cached = model.weight_bytes(weight_dtype), model.cache_bytes(tokens, kv_dtype)
    return Receipt(model, tokens, weight_dtype, kv_dtype, weights, cached)


def receipt_picture(bill: Receipt) -> Picture:
    """The cards that weights and cache fill."""
    return cards(_parts(bill), CARD_BYTES, label=f"{_title(bill.model)}, {bill.tokens:,} tokens")


def receipt_sentence(bill: Receipt) -> str:
    """The receipt in words: sizes, cards, money with its date, and a warning where the model was not made for it."""
    rents = [f"{usd(bill.usd_per_hour(price))} an hour in {month(price.as_of)}" for price in rough_prices()]
    words = (
        f"{_title(bill.model)} with {tokens(bill.tokens)} of context: weights {size(bill.weight_bytes)} + KV cache "
        f"{size(bill.cache_bytes)} = {size(bill.total_bytes)}. First rough count: {plural(bill.cards, 'card')} of "
        f"{size(CARD_BYTES)}. Renting: {' or '.join(rents)}; later lessons refine both."
    )
    if not bill.trained:
        limit = f"{bill.model.max_context:,} tokens"
        words += f" Careful: this model was not trained for this; its configuration ends at {limit}."
    return words


def receipt_table(bill: Receipt) -> Html:
    """The receipt line by line, each amount with its units, each price with its date and source."""
    spread = f"weights and cache laid end to end on cards of {size(CARD_BYTES)}, rounded up"
    body = [
        (f"weights ({bill.weight_dtype})", size(bill.weight_bytes), f"{bill.model.parameters:,} weights"),
        (f"KV cache ({bill.kv_dtype})", size(bill.cache_bytes), f"{bill.tokens:,} tokens, summed over the layers"),
        ("together", size(bill.total_bytes), "weights + KV cache"),
        ("cards of 80 GB", f"{bill.cards:,}", spread),
    ]
    for price in rough_prices():
        rent = f"rent in {month(price.as_of)}, {usd(price.usd_per_gpu_hour)} per {price.gpu}-hour"
        hour, whole_month = usd(bill.usd_per_hour(price)), usd(bill.usd_per_month(price))
        cost = f"{hour} an hour, {whole_month} a month of {HOURS_PER_MONTH} hours"
        body.append((rent, cost, f"{price.terms}; {price.source}"))
    caption = f"Receipt: {_title(bill.model)}, one conversation of {tokens(bill.tokens)}"
    return table(caption, ("what", "how much", "how we know"), body)


def month(as_of: str) -> str:
    """The month of an `as_of` date: "2025-10" gives "October 2025"."""
    year, number = as_of.split("-")[:2]
    return f"{_MONTHS[int(number) - 1]} {year}"


def _parts(bill: Receipt) -> list[tuple[str, int]]:
    return [("weights", bill.weight_bytes), ("KV cache", bill.cache_bytes)]


def _title(model: Model) -> str:
    return model.title or model.name
