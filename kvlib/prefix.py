"""The bill of a sequence of requests to an API: without a cache, and under the rules of each provider's context cache.

The server forgets the conversation, so every request sends it again, and every token is billed again. A cache does not
change that. It makes the repeated part cheaper, if the prefix is the same to the token, is long enough, and is still
there; some providers ask money for writing it, or rent for keeping it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

from kvlib.bills import Bill, Price
from kvlib.cache_rules import CacheRule, Terms, cache_rule
from kvlib.sessions import Request, shared_tokens

Seconds = float | Fraction
HOUR = 3_600


@dataclass(frozen=True)
class SessionLine:
    """One entry of the bill: what was billed, when (seconds), and how."""

    what: str
    at: Seconds
    bill: Bill

    def tokens(self, kind: str) -> int:
        """Tokens on the lines whose kind begins so: "new input", "cached input", "tokens written"."""
        return sum(line.tokens for line in self.bill.lines if line.kind.startswith(kind))


@dataclass(frozen=True, repr=False)
class SessionBill:
    """The bill of a session, exact. `low` and `high` differ where it is not known which price held."""

    price: Price
    rule: CacheRule | None
    lines: tuple[SessionLine, ...]
    note: str = ""

    @property
    def usd(self) -> Decimal:
        """The sum."""
        return sum((line.bill.usd for line in self.lines), Decimal(0))

    @property
    def low(self) -> Decimal:
        """The sum at the lowest price that may have held."""
        return sum((line.bill.low for line in self.lines), Decimal(0))

    @property
    def high(self) -> Decimal:
        """The sum at the highest price that may have held."""
        return sum((line.bill.high for line in self.lines), Decimal(0))

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens that were read from the cache, over all requests."""
        return sum(line.tokens("cached input") for line in self.lines)

    @property
    def written_tokens(self) -> int:
        """Prompt tokens that were written to the cache at a price of their own."""
        return sum(line.tokens("tokens written") for line in self.lines)

    def __repr__(self) -> str:
        how = self.rule.title if self.rule else "no cache"
        heads = ("seconds", "", "new", "cached", "written", "output", "USD")
        rows = [f"{heads[0]:>9}  {heads[1]:<17}" + "".join(f"{head:>12}" for head in heads[2:])]
        for line in self.lines:
            counts = [line.tokens(kind) for kind in ("new input", "cached input", "tokens written", "output")]
            rows.append(
                f"{float(line.at):>9,.0f}  {line.what:<17}"
                + "".join(f"{tokens:>12,}" for tokens in counts)
                + f"{line.bill.usd:>12.6f}"
            )
        note = [self.note] if self.note else []
        return "\n".join([f"{self.price.model}, {how}: {self.usd:.6f} USD", *note, *rows])


def session_bill(
    requests: Iterable[Request],
    price: Price,
    rule: str | CacheRule | None = None,
    *,
    ttl: Seconds | None = None,
    hold_hours: float | Fraction | None = None,
    on: date | None = None,
) -> SessionBill:
    """The bill of requests in order of arrival, one line for each, and those of creating and keeping a cache.

    Args:
        requests: `conversation(...)`, a Trace's requests, or your own.
        price: `price(model, on)`.
        rule: how the prompts are cached, a name of `cache_rules()`; None: not at all.
        ttl: seconds without use after which a cached prefix is gone; None: the shortest that the rule publishes.
        hold_hours: how long an explicit cache is kept, from the first request on; None: until the last one.
        on: the day, for minimums that changed; None: the latest known.

    Returns:
        A SessionBill. Discounts are what the rule allows: an automatic cache promises no hit, so it may cost more.

    Raises:
        ValueError: if the rule is not one of this model, it publishes no life and none is given, requests are not in
            order or have too many marks, or an explicit cache has no recorded storage price.
    """
    rows = list(requests)
    if any(later.at < earlier.at for earlier, later in pairwise(rows)):
        raise ValueError("requests must be in order of arrival")
    if rule is None:
        return SessionBill(price, None, tuple(_line(n, r, price) for n, r in enumerate(rows, 1)))
    found = cache_rule(rule)
    terms = found.terms(price, on=on)
    if found.match == "object":
        return _with_object(rows, price, found, terms, hold_hours)
    life = _life(found, ttl)
    if found.match == "marks" and any(len(request.marks) > found.marks for request in rows):
        raise ValueError(f"marks must be at most {found.marks} a request under {found.name}")
    kind = {"cache_write": "written_tokens", "cache_write_1h": "written_1h_tokens"}.get(found.write)
    lines = []
    for number, (request, (read, written)) in enumerate(zip(rows, _hits(rows, found, terms, life), strict=True), 1):
        extra = {kind: written} if kind else {}
        lines.append(_line(number, request, price, cached_tokens=read, **extra))
    return SessionBill(price, found, tuple(lines))


def _line(number: int, request: Request, price: Price, **tokens: int) -> SessionLine:
    return SessionLine(f"request {number}", request.at, price.bill(request.tokens, request.output_tokens, **tokens))


def _life(rule: CacheRule, ttl: Seconds | None) -> Seconds:
    if ttl is None:
        if rule.ttl is None:
            raise ValueError(f"ttl must be given in seconds: {rule.title} publishes no number; got None")
        return rule.ttl[0]
    if not 0 < ttl <= math.inf:
        raise ValueError(f"ttl must be seconds above 0; got {ttl!r}")
    return ttl


def _with_object(
    rows: Sequence[Request], price: Price, rule: CacheRule, terms: Terms, hold_hours: float | Fraction | None
) -> SessionBill:
    """An explicit cache of what all prompts begin with, up to the first mark if there is one: create, keep, read."""
    plain = SessionBill(price, rule, tuple(_line(n, r, price) for n, r in enumerate(rows, 1)))
    if not rows:
        return plain
    cut = rows[0].parts[: rows[0].marks[0] if rows[0].marks else None]
    wanted = replace(rows[0], parts=cut, marks=())
    tokens = min(shared_tokens(wanted, request) for request in rows)
    if tokens < terms.minimum:
        return replace(plain, note=f"{tokens:,} tokens are below the minimum of {terms.minimum:,}: nothing is cached")
    if price.storage is None:
        raise ValueError(f"price must have a recorded storage price for an explicit cache; {price.model} has none")
    start = Fraction(rows[0].at)
    hold = Fraction(rows[-1].at) - start if hold_hours is None else Fraction(hold_hours) * HOUR
    if hold < 0:
        raise ValueError(f"hold_hours must be 0 or more; got {hold_hours!r}")
    lines = [SessionLine("create the cache", start, price.bill(tokens))]
    if hold:
        lines.append(SessionLine("keep the cache", start, _rent(tokens, hold, price)))
    for number, request in enumerate(rows, 1):
        there = Fraction(request.at) - start <= hold
        lines.append(_line(number, request, price, cached_tokens=tokens if there else 0))
    return SessionBill(price, rule, tuple(lines))


def _rent(tokens: int, hold: Fraction, price: Price) -> Bill:
    """Rent for `hold` seconds; a third of an hour is rounded in the 28th digit."""
    hour = price.bill(0, kept_tokens=tokens, kept_hours=1)
    hours = Decimal(hold.numerator) / Decimal(hold.denominator * HOUR)
    return replace(hour, lines=tuple(replace(line, hours=hours) for line in hour.lines))


def _hits(rows: Sequence[Request], rule: CacheRule, terms: Terms, life: Seconds) -> Iterator[tuple[int, int]]:
    """(tokens read, tokens written) of each request. A prefix is known by its number, see `_numbered`."""
    numbers: dict[Any, int] = {}
    used: dict[int, Seconds] = {}  # cached prefix -> when it was last used
    seen: dict[int, Seconds] = {}  # prefix of any prompt -> when it was last sent
    for request in rows:
        chain = _numbered(request.parts, numbers)
        marks = _places(rule, request)
        hit = _deepest(chain, used, request.at - life, lambda place, marks=marks: _in_reach(rule, place, marks))  # type: ignore[misc]
        read = chain[hit][1] // terms.increment * terms.increment if hit is not None else 0
        kept = [chain[place] for place in marks if chain[place][1] >= terms.minimum]
        yield read, max(0, kept[-1][1] - read) if kept else 0
        if rule.match == "units":
            kept += _numbered((*request.parts, (request.answer, request.output_tokens)), numbers)[-1:]
            common = _deepest(chain, seen, request.at - life)
            kept += [] if common is None else [chain[common]]
        renewed = [prefix for prefix in chain[: hit + 1] if prefix[0] in used] if read and hit is not None else []
        used.update((number, request.at) for number, _ in kept + renewed)
        seen.update((number, request.at) for number, _ in chain)


def _numbered(parts: Sequence[Any], numbers: dict[Any, int]) -> list[tuple[int, int]]:
    """(number, tokens) of the prefix that ends with each part; equal prefixes have equal numbers."""
    chain, before, tokens = [], -1, 0
    for part in parts:
        before = numbers.setdefault((before, part), len(numbers))
        tokens += part[1]
        chain.append((before, tokens))
    return chain


def _places(rule: CacheRule, request: Request) -> list[int]:
    """After which parts this prompt leaves a prefix in the cache, in order."""
    last = len(request.parts) - 1
    if rule.match == "longest":
        return list(range(last + 1))
    if rule.match == "marks" and request.marks:
        return [mark - 1 for mark in request.marks]
    return [last] if last >= 0 else []


def _in_reach(rule: CacheRule, place: int, marks: Sequence[int]) -> bool:
    """Whether a lookup finds a prefix that ends at `place`: it goes back from the marks, not from the end."""
    if rule.match != "marks":
        return True
    return any(place <= mark and (rule.lookback is None or place >= mark - rule.lookback) for mark in marks)


def _deepest(
    chain: Sequence[tuple[int, int]],
    when: dict[int, Seconds],
    since: Seconds,
    reach: Callable[[int], bool] = lambda place: True,
) -> int | None:
    """The last place of the chain whose prefix was there at `since` or later."""
    for place in reversed(range(len(chain))):
        number = chain[place][0]
        if number in when and when[number] >= since and reach(place):
            return place
    return None
