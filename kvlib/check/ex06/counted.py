"""The truth of exercise 06: sessions that are played and billed request by request, and no formula to copy.

The bills are those of `kvlib.prefix`, which equal the price package's; the engine is `kvlib.reuse`. Prices are the
exercise's own, so that a learner's function can be tried on any.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from fractions import Fraction
from functools import cache
from random import Random
from typing import Any

from kvlib.bills import Price, Rates
from kvlib.check.ex05.counted import Money
from kvlib.hardware import Source
from kvlib.keep import longest_pause, options
from kvlib.payback import search_requests_to_pay
from kvlib.prefix import HOUR, session_bill
from kvlib.reuse import BlockCache
from kvlib.sessions import Request
from kvlib.units import GB

Parts = Sequence[tuple[str, int]]
Usd = Any  # a Money: a Question types its truths as whole numbers

MOST_REQUESTS = 200  # where the search of exercise 6 gives up; no case needs more
MINUTES = 60


def drawn(seed: int, *ranges: tuple[int, int]) -> list[int]:
    """A whole number from each range, ends included: the same on every machine and in every Python."""
    random = Random(seed)
    return [low + int(random.random() * (high - low + 1)) for low, high in ranges]


def shared_tokens(first: Parts, second: Parts) -> int:
    """Lay both prompts out, a token at a time, and walk along until they differ."""
    one, other = ([(name, place) for name, tokens in parts for place in range(tokens)] for parts in (first, second))
    walked = 0
    while walked < min(len(one), len(other)) and one[walked] == other[walked]:
        walked += 1
    return walked


def hit_tokens(shared: int, prompt: int, block: int) -> int:
    """Serve an earlier prompt from an engine's cache with room for all, then ask for this one."""
    engine = BlockCache(block, block_bytes=1, budget_bytes=10**9)
    engine.serve([*range(shared), *["earlier"] * block])
    return engine.serve([*range(shared), *["new"] * (prompt - shared)])


def session_usd(
    document: int, question: int, questions: int, usd_input: float, usd_write: float, usd_read: float
) -> Usd:
    """USD: a document with a mark after it, and a question a minute, billed one by one."""
    price = _price("anthropic", "claude-sonnet-4-5", usd_input, usd_read, written=usd_write)
    return Money(session_bill(_asked(document, question, questions, MINUTES), price, "anthropic-5m").usd)


def kept_usd(
    document: int,
    question: int,
    questions: int,
    hours: float,
    usd_input: float,
    usd_cached: float,
    usd_storage: float,
) -> Usd:
    """USD: create a cache, keep it, and ask questions at equal distances while it is there."""
    price = _price("google", "gemini-2.5-pro", usd_input, usd_cached, storage=usd_storage)
    span = Fraction(str(hours))
    rows = _asked(document, question, questions, span * HOUR / questions)
    return Money(session_bill(rows, price, "gemini-explicit", hold_hours=span).usd)


@cache
def fewest_requests(hours: float, usd_input: float, usd_cached: float, usd_storage: float) -> int:
    """Try one request, two, three, ... and compare the two bills, until the cache is cheaper."""
    price = _price("google", "gemini-2.5-pro", usd_input, usd_cached, storage=usd_storage)
    found = search_requests_to_pay(price, "gemini-explicit", 100_000, Fraction(str(hours)), most=MOST_REQUESTS)
    assert found is not None, "every case must have an answer"
    return found


def prompt_usd(new: int, cached: int, threshold: int, usd_input: float, usd_cached: float) -> Usd:
    """USD of one prompt, by a price list with two columns."""
    price = _price("google", "gemini-2.5-pro", usd_input, usd_cached, threshold=threshold)
    return Money(price.bill(new + cached, cached_tokens=cached).usd)


def pause_minutes(cache_gb: float, card_gb: int, cards: int, prefill_seconds: float, usd_per_gpu_hour: float) -> Usd:
    """Minutes: what an hour in HBM and a new prefill cost, and the pause at which they cost the same."""
    held = int(Fraction(str(cache_gb)) * GB)
    keep, again = options(held, prefill_seconds, usd_per_gpu_hour, gpus=cards, gpu_bytes=card_gb * GB, others=())
    return Money(longest_pause(keep, again) * MINUTES)


def _asked(document: int, question: int, questions: int, pause: float | Fraction) -> list[Request]:
    """Questions about one document, each by itself: nothing of an earlier one is sent again."""
    parts = [(("document", document), (("question", number), question)) for number in range(questions)]
    return [Request(number * pause, each, marks=(1,)) for number, each in enumerate(parts)]


def _price(
    provider: str,
    model: str,
    new: float,
    cached: float,
    *,
    written: float | None = None,
    storage: float | None = None,
    threshold: int | None = None,
) -> Price:
    """A price list with the exercise's numbers, for a model whose rules are known; output costs nothing here."""

    def rates(times: int) -> Rates:
        write = None if written is None else _exact(written) * times
        return Rates(_exact(new) * times, Decimal(0), _exact(cached) * times, write)

    return Price(
        provider,
        model,
        rates(1),
        Source("exercise 06", date(2026, 11, 20)),
        "2026-11",
        threshold=threshold,
        long=None if threshold is None else rates(2),
        storage=None if storage is None else _exact(storage),
    )


def _exact(number: float) -> Decimal:
    """The number as it was written: 0.31 is 31/100, not the float next to it."""
    return Decimal(str(number))
