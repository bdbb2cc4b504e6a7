"""A price list, and the bill it makes of a request, line by line and in exact decimals.

    bill = new tokens x input + cached tokens x cached input + output tokens x output + storage

Above a threshold the whole request is dearer, not the tokens beyond it: 200,001 tokens can cost twice as much as
200,000.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

from kvlib.hardware import Source
from kvlib.ranges import amount
from kvlib.units import whole

MILLION = 10**6


@dataclass(frozen=True)
class Rates:
    """USD per million tokens. None: this kind has no price of its own and is billed as new input.

    `cached_input_range` is (low, high) where it is not known which price held.
    """

    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    cached_input_range: tuple[Decimal, Decimal] | None = None


@dataclass(frozen=True)
class BillLine:
    """One line of a bill: `tokens` of one kind at USD per million, `low` and `high` where the price is not certain."""

    kind: str
    tokens: int
    usd_per_million: Decimal
    low: Decimal
    high: Decimal
    hours: Decimal = Decimal(1)

    def usd(self, price: Decimal | None = None) -> Decimal:
        """USD at this price per million, or at the recorded one."""
        return self.tokens * self.hours * (self.usd_per_million if price is None else price) / MILLION


@dataclass(frozen=True, repr=False)
class Bill:
    """A bill, line by line. `usd` uses the recorded prices; `low` and `high` differ where a price is not certain."""

    price: Price
    lines: tuple[BillLine, ...]

    @property
    def usd(self) -> Decimal:
        """The sum, exact."""
        return sum((line.usd() for line in self.lines), Decimal(0))

    @property
    def low(self) -> Decimal:
        """The sum at the lowest price that may have held."""
        return sum((line.usd(line.low) for line in self.lines), Decimal(0))

    @property
    def high(self) -> Decimal:
        """The sum at the highest price that may have held."""
        return sum((line.usd(line.high) for line in self.lines), Decimal(0))

    def __repr__(self) -> str:
        sure = f"{self.usd:f} USD" if self.low == self.high else f"{self.low:f} to {self.high:f} USD"
        rows = [f"{line.tokens:,} {line.kind} at {line.usd_per_million} per million" for line in self.lines]
        return f"{self.price.model}: {sure} = " + " + ".join(rows)


@dataclass(frozen=True)
class Price:
    """The prices of a model on a day. `long` replaces `rates` for a whole request of more than `threshold` tokens.

    `storage` is USD per million tokens and hour of an explicit cache, None if there is none or it is not recorded.
    """

    provider: str
    model: str
    rates: Rates
    source: Source
    as_of: str
    threshold: int | None = None
    long: Rates | None = None
    storage: Decimal | None = None
    valid_from: date | None = None
    valid_to: date | None = None
    version: str = ""
    unverified: tuple[str, ...] = ()
    month_only: tuple[str, ...] = ()
    retired: bool = False
    note: str = ""

    def at(self, input_tokens: int) -> Rates:
        """The rates of a request whose whole prompt, cached part included, has `input_tokens` tokens."""
        prompt = whole("input_tokens", input_tokens)
        over = self.long is not None and self.threshold is not None and prompt > self.threshold
        return self.long if over and self.long else self.rates

    def bill(
        self,
        input_tokens: int,
        output_tokens: int = 0,
        *,
        cached_tokens: int = 0,
        written_tokens: int = 0,
        written_1h_tokens: int = 0,
        kept_tokens: int = 0,
        kept_hours: float = 0,
    ) -> Bill:
        """The bill of one request, and of keeping a cache.

        Args:
            input_tokens: the whole prompt, with the parts that are read from or written to a cache.
            output_tokens: what is written, thinking included.
            cached_tokens: the part of the prompt that is read from a cache.
            written_tokens: the part that is written to a cache (the 5-minute kind, where there are two).
            written_1h_tokens: the part that is written to a cache that keeps it for an hour.
            kept_tokens: tokens in an explicit cache with a storage price.
            kept_hours: for how long.

        Raises:
            ValueError: if a count is no whole number, the parts exceed the prompt, or storage has no recorded price.
        """
        counts = {
            "cached_tokens": cached_tokens,
            "written_tokens": written_tokens,
            "written_1h_tokens": written_1h_tokens,
        }
        parts = sum(whole(name, value) for name, value in counts.items())
        if parts > whole("input_tokens", input_tokens):
            raise ValueError(f"{' + '.join(counts)} must be at most input_tokens ({input_tokens:,}); got {parts:,}")
        rates = self.at(input_tokens)
        cached = rates.input if rates.cached_input is None else rates.cached_input
        write = rates.input if rates.cache_write is None else rates.cache_write
        write_1h = write if rates.cache_write_1h is None else rates.cache_write_1h
        low, high = rates.cached_input_range or (cached, cached)
        lines = [
            _line("new input tokens", input_tokens - parts, rates.input),
            BillLine("cached input tokens", cached_tokens, cached, low, high),
            _line("tokens written to the cache", written_tokens, write),
            _line("tokens written to the cache for an hour", written_1h_tokens, write_1h),
            _line("output tokens", whole("output_tokens", output_tokens), rates.output),
        ]
        if whole("kept_tokens", kept_tokens) and amount("kept_hours", kept_hours).point:
            if self.storage is None:
                raise ValueError(
                    f"kept_tokens must be 0: {self.model} has no recorded storage price; got {kept_tokens:,}"
                )
            hours = Decimal(str(kept_hours))
            lines.append(replace(_line("tokens kept, per hour", kept_tokens, self.storage), hours=hours))
        return Bill(self, tuple(line for line in lines if line.tokens))

    def per_million(
        self, input_tokens: int, output_tokens: int, *, cached_tokens: int = 0, counted: str = "all"
    ) -> Decimal:
        """USD per million `counted` tokens ("all", "input" or "output") of a request: one number for `kvlib.Api`.

        Raises:
            ValueError: if `counted` is something else, or there is no token to count.
        """
        many = {"all": input_tokens + output_tokens, "input": input_tokens, "output": output_tokens}
        if not many.get(counted):
            raise ValueError(f"counted must be all, input or output, with at least one such token; got {counted!r}")
        return self.bill(input_tokens, output_tokens, cached_tokens=cached_tokens).usd * MILLION / many[counted]


def _line(kind: str, tokens: int, price: Decimal) -> BillLine:
    return BillLine(kind, tokens, price, price, price)
