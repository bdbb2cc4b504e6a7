"""Exercises 5 and 6: the bill of a cache for rent, and the requests that make it pay."""

from __future__ import annotations

import math
from collections.abc import Callable

from kvlib.check.base import Case, Question, Slip
from kvlib.check.ex06 import counted
from kvlib.check.ex06.counted import drawn
from kvlib.check.ex06.written import per_million

# ---------------------------------------------------------------- exercise 5: a cache for rent


def _kept(label: str, sent: tuple[int, int, int], hours: float, usd: tuple[float, float, float]) -> Case:
    """A document, a question, how many; hours of rent; a price list (input, cached, storage), for exercise 5."""
    asked = {"document": sent[0], "question": sent[1], "questions": sent[2], "hours": hours}
    return Case(label, {**asked, "usd_input": usd[0], "usd_cached": usd[1], "usd_storage": usd[2]})


def _drawn_kept(seed: int) -> Case:
    """A kept cache of random size at random prices."""
    *sent, quarters, new, cached, rent = drawn(
        seed, (20_000, 90_000), (50, 900), (3, 20), (5, 40), (100, 300), (10, 90), (50, 400)
    )
    document, question, questions = sent
    label = f"drawn at random ({document:,} tokens, {questions} questions)"
    return _kept(label, (document, question, questions), quarters / 4, (new / 100, cached / 100, rent / 100))


PRO, PRO_2025, FLASH = (1.25, 0.125, 4.5), (1.25, 0.31, 4.5), (0.75, 0.075, 0.5)

KEPT_USD = Question(
    "kept_usd",
    "USD",
    cases=(
        _kept("Gemini 2.5 Pro, ten questions within the hour", (100_000, 200, 10), 1, PRO),
        _kept("the same, kept for a day", (100_000, 200, 10), 24, PRO),
        _kept("Gemini 2.5 Pro in October 2025, half an hour", (150_000, 100, 5), 0.5, PRO_2025),
        _kept("Gemini 3.8 Flash, one question in a weekend", (100_000, 200, 1), 48, FLASH),
        _drawn_kept(5),
    ),
    truth=counted.kept_usd,
    slips=(
        Slip(
            "storage per hour forgotten",
            per_million(lambda d, q, n, h, new, cached, rent: d * new + n * (d * cached + q * new)),
            "the rent is missing: {document:,} tokens lie there for {hours} h",
        ),
        Slip(
            "one hour of rent",
            per_million(lambda d, q, n, h, new, cached, rent: d * new + d * rent + n * (d * cached + q * new)),
            "you paid one hour of rent; the cache is kept for {hours}",
        ),
        Slip(
            "rent by the question",
            per_million(lambda d, q, n, h, new, cached, rent: d * new + n * (d * h * rent + d * cached + q * new)),
            "you paid the rent {questions} times; there is one cache, however many ask",
        ),
        Slip(
            "rent for the questions too",
            per_million(
                lambda d, q, n, h, new, cached, rent: d * new + (d + q) * h * rent + n * (d * cached + q * new)
            ),
            "only the document lies in the cache; the questions do not stay",
        ),
        Slip(
            "cache write forgotten",
            per_million(lambda d, q, n, h, new, cached, rent: d * h * rent + n * (d * cached + q * new)),
            "creating the cache is missing: that call reads {document:,} tokens for the first time",
        ),
        Slip(
            "creation at the price of a hit",
            per_million(lambda d, q, n, h, new, cached, rent: d * cached + d * h * rent + n * (d * cached + q * new)),
            "you created the cache at the price of a hit, and there was nothing to hit yet",
        ),
        Slip(
            "creation answers a question",
            per_million(
                lambda d, q, n, h, new, cached, rent: d * new + d * h * rent + (n - 1) * d * cached + n * q * new
            ),
            "creating answers nothing: all {questions} questions come after it, and each reads the cache",
        ),
        Slip(
            "discount taken for free",
            per_million(lambda d, q, n, h, new, cached, rent: d * new + d * h * rent + n * q * new),
            "cached tokens are cheaper, not free: {document:,} at {usd_cached}, each time",
        ),
        Slip(
            "cached at full price",
            per_million(lambda d, q, n, h, new, cached, rent: d * new + d * h * rent + n * (d + q) * new),
            "you paid rent and got no discount: a request reads {document:,} tokens at {usd_cached}",
        ),
        Slip(
            "questions out of the cache",
            per_million(lambda d, q, n, h, new, cached, rent: d * new + d * h * rent + n * (d + q) * cached),
            "the questions are new each time, and new tokens are input",
        ),
        Slip(
            "questions forgotten",
            per_million(lambda d, q, n, h, new, cached, rent: d * new + d * h * rent + n * d * cached),
            "the questions are missing: {question:,} tokens each time",
        ),
        Slip(
            "price per token",
            lambda d, q, n, h, new, cached, rent: d * new + d * h * rent + n * (d * cached + q * new),
            "the prices are per million tokens, that of storage too",
        ),
    ),
)

# ---------------------------------------------------------------- exercise 6: enough requests


def _rented(label: str, hours: float, usd: tuple[float, float, float]) -> Case:
    """Hours of rent and a price list (input, cached, storage), for exercise 6."""
    return Case(label, {"hours": hours, "usd_input": usd[0], "usd_cached": usd[1], "usd_storage": usd[2]})


def _drawn_rented(seed: int) -> Case:
    """Random prices."""
    hours, new, cached, rent = drawn(seed, (2, 6), (100, 400), (10, 60), (50, 450))
    return _rented(f"drawn at random ({hours} hours)", hours, (new / 100, cached / 100, rent / 100))


def _above(quotient: Callable[..., float]) -> Callable[..., int]:
    """The least whole number above a quotient."""
    return lambda *inputs: math.floor(quotient(*inputs)) + 1


FEWEST_REQUESTS = Question(
    "fewest_requests",
    "requests",
    cases=(
        _rented("Gemini 2.5 Pro, an hour", 1, (1.25, 0.125, 4.5)),
        _rented("the same, a day", 24, (1.25, 0.125, 4.5)),
        _rented("Gemini 2.5 Pro in October 2025, an hour", 1, (1.25, 0.31, 4.5)),
        _rented("Gemini 3.8 Flash, a day", 24, (0.75, 0.075, 0.5)),
        _rented("made up: three requests cost the same either way", 1, (1.0, 0.5, 0.5)),
        _drawn_rented(6),
    ),
    truth=counted.fewest_requests,
    slips=(
        Slip(
            "storage per hour forgotten",
            _above(lambda hours, new, cached, rent: new / (new - cached)),
            "without rent that would be enough; the cache is kept for {hours} h at {usd_storage}",
        ),
        Slip(
            "one hour of rent",
            _above(lambda hours, new, cached, rent: (new + rent) / (new - cached)),
            "you paid one hour of rent; the cache is kept for {hours}",
        ),
        Slip(
            "discount taken for free",
            _above(lambda hours, new, cached, rent: (new + rent * hours) / new),
            "a request with the cache still pays {usd_cached}, so it saves less than {usd_input}",
        ),
        Slip(
            "cache write forgotten",
            _above(lambda hours, new, cached, rent: rent * hours / (new - cached)),
            "creating the cache costs as well: the document is read once at {usd_input}",
        ),
        Slip(
            "creation answers a question",
            _above(lambda hours, new, cached, rent: (new - cached + rent * hours) / (new - cached)),
            "you let the creation answer the first request; it answers nothing",
        ),
        Slip(
            "the discount turned over",
            _above(lambda hours, new, cached, rent: (new + rent * hours) / cached),
            "you divided by what a request with the cache costs; what does it save?",
        ),
        Slip(
            "rounded down",
            lambda hours, new, cached, rent: math.floor((new + rent * hours) / (new - cached)),
            "with so many requests the cache is not cheaper yet: try the two bills",
        ),
        Slip(
            "a draw for a win",
            lambda hours, new, cached, rent: math.ceil((new + rent * hours) / (new - cached)),
            "with so many requests both cost the same; asked is when the cache is cheaper",
        ),
        Slip(
            "a part of a request",
            lambda hours, new, cached, rent: (new + rent * hours) / (new - cached),
            "that is where both cost the same; requests are whole, and asked is when the cache is cheaper",
        ),
    ),
)
