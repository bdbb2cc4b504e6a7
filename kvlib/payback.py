"""When a context cache pays: the fewest requests within a time, by a formula and by adding up bills.

Per token, with p for new input, c for cached, w for written, s for an hour of storage, T hours and N requests:

    explicit cache      p + s T + N c < N p        N > (p + s T) / (p - c)
    written as it goes  w + (N - 1) c < N p        N > (w - c) / (p - c), and the pauses T / N within the cache's life
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction

from kvlib.bills import Price
from kvlib.cache_rules import CacheRule, cache_rule
from kvlib.prefix import HOUR, Seconds, session_bill
from kvlib.sessions import Request
from kvlib.units import whole

_ROUNDING = Decimal("1e-15")  # USD: what an hour divided by three may be off


def requests_to_pay(
    price: Price,
    rule: str | CacheRule,
    tokens: int,
    hours: float | Fraction = 0,
    *,
    question: int = 100,
    ttl: Seconds | None = None,
) -> int | None:
    """The least number of requests with which caching is cheaper than not caching: the formula.

    Args:
        price: `price(model, on)`.
        rule: a name of `cache_rules()`.
        tokens: tokens of the prefix that all requests share.
        hours: time over which the requests are spread evenly, and for which an explicit cache is kept.
        question: further tokens of each request, which nobody shares; they count towards a threshold.
        ttl: seconds a cache lives without use; None: the shortest that the rule publishes.

    Returns:
        The number, None if no number of requests is enough.

    Raises:
        ValueError: if an argument is out of range, or no life or storage price is known where one is needed.
    """
    found, span = cache_rule(rule), _span(hours)
    terms = found.terms(price, whole("tokens", tokens, 1) + whole("question", question, 1))
    rates = price.at(tokens + question)
    new = Fraction(rates.input)
    cached = new * terms.read
    if tokens < terms.minimum:
        return None
    if found.match == "object":
        if cached >= new:
            return None
        if price.storage is None:
            raise ValueError(f"price must have a recorded storage price for an explicit cache; {price.model} has none")
        fixed = Fraction(price.at(tokens).input) + Fraction(price.storage) * span
        return math.floor(fixed / (new - cached)) + 1
    life = found.ttl[0] if ttl is None and found.ttl else ttl
    if life is None or life <= 0:
        raise ValueError(f"ttl must be seconds above 0: {found.title} publishes no number; got {ttl!r}")
    cold = 2 if found.match == "units" else 1  # requests until the shared prefix is stored
    written = new if cold == 2 or found.match == "longest" else new * terms.write
    if cached >= new or written < new:
        return 1 if written < new else None
    least = math.floor(cold * (written - cached) / (new - cached)) + 1
    often = 1 if life == math.inf else math.ceil(span * HOUR / Fraction(life))
    return max(least, often)


def search_requests_to_pay(
    price: Price,
    rule: str | CacheRule,
    tokens: int,
    hours: float | Fraction = 0,
    *,
    question: int = 100,
    ttl: Seconds | None = None,
    most: int = 1_000,
) -> int | None:
    """The same by trying 1, 2, 3, ... requests and comparing the two bills; None if `most` are not enough."""
    found, span = cache_rule(rule), _span(hours)
    hold = span if found.match == "object" else None
    for many in range(1, whole("most", most, 1) + 1):
        rows = list(_evenly(many, span, tokens, question))
        with_cache = session_bill(rows, price, found, ttl=ttl, hold_hours=hold)
        if session_bill(rows, price).usd - with_cache.usd > _ROUNDING:
            return many
    return None


def reads_to_pay(write: float | Decimal, read: float | Decimal) -> Fraction:
    """Reads above which writing a prefix pays: (w - 1) / (1 - r), `write` and `read` as multiples of new input.

    At 1.25 and 0.1 the first read pays, at 2 and 0.1 the second.

    Raises:
        ValueError: if a read is no cheaper than new input, or writing is cheaper than it.
    """
    w, r = Fraction(str(write)), Fraction(str(read))
    if w < 1 or not 0 <= r < 1:
        raise ValueError(f"write must be at least 1 and read at least 0 and below 1; got {write!r} and {read!r}")
    return (w - 1) / (1 - r)


def reuses_per_hour(price: Price, prompt_tokens: int = 0) -> float:
    """Requests per hour that pay for keeping an explicit cache alive, once it is there: s / (p - c).

    Raises:
        ValueError: if the price has no storage, or cached input is no cheaper.
    """
    rates = price.at(prompt_tokens)
    if price.storage is None or rates.cached_input is None or rates.cached_input >= rates.input:
        raise ValueError(f"price must have storage and cheaper cached input; got {price.model}")
    return float(price.storage / (rates.input - rates.cached_input))


def _evenly(many: int, span: Fraction, tokens: int, question: int) -> Iterator[Request]:
    """`many` requests over `span` hours: one document, marked, and each time another question."""
    for number in range(many):
        parts = (("document", tokens), (("question", number), question))
        yield Request(number * span * HOUR / many, parts, marks=(1,))


def _span(hours: float | Fraction) -> Fraction:
    if not 0 <= hours < math.inf:
        raise ValueError(f"hours must be 0 or more; got {hours!r}")
    return Fraction(hours)
