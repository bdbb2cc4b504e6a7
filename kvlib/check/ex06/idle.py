"""Exercise 8: how long an idle user's cache is worth its memory."""

from __future__ import annotations

from kvlib.check.base import Case, Question, Slip
from kvlib.check.ex06 import counted
from kvlib.check.ex06.counted import drawn

# ---------------------------------------------------------------- exercise 8: keep it or compute it again


def _idle(label: str, cache_gb: float, card_gb: int, cards: int, seconds: float, usd: float) -> Case:
    """An idle user's cache and what it takes to compute it again, for exercise 8."""
    given = {"cache_gb": cache_gb, "card_gb": card_gb, "cards": cards}
    return Case(label, {**given, "prefill_seconds": seconds, "usd_per_gpu_hour": usd})


def _drawn_idle(seed: int) -> Case:
    """A random cache on a random number of cards."""
    tenths, cards, seconds, cents = drawn(seed, (50, 900), (2, 8), (5, 90), (150, 400))
    return _idle(f"drawn at random ({tenths / 10} GB, {cards} cards)", tenths / 10, 80, cards, seconds, cents / 100)


PAUSE_MINUTES = Question(
    "pause_minutes",
    "minutes",
    cases=(
        _idle("Llama 3.1 70B, 200,000 tokens, 8 H100", 65.5, 80, 8, 17.9, 1.70),
        _idle("the same at twice the rent", 65.5, 80, 8, 17.9, 3.40),
        _idle("the same, 1,000,000 tokens", 327.7, 80, 8, 281, 1.70),
        _idle("Llama 3.1 8B, a chat of 8,192 tokens, one H100", 1.07, 80, 1, 0.194, 1.70),
        _idle("DeepSeek-V3, 131,072 tokens, 8 H200", 73.7, 141, 8, 13.2, 3.50),
        _drawn_idle(8),
    ),
    truth=counted.pause_minutes,
    slips=(
        Slip(
            "one card computes",
            lambda gb, card, cards, seconds, usd: seconds / 60 * card / gb,
            "all {cards} cards are busy with the prefill",
        ),
        Slip(
            "the whole machine for the cache",
            lambda gb, card, cards, seconds, usd: seconds / 60,
            "you let the cache pay for the whole machine; it takes up {cache_gb} GB, and a card alone has {card_gb}",
        ),
        Slip(
            "one card for the cache",
            lambda gb, card, cards, seconds, usd: cards * seconds / 60,
            "you let the cache pay for one whole card; it takes up {cache_gb} GB, and a card has {card_gb}",
        ),
        Slip(
            "a share of the machine",
            lambda gb, card, cards, seconds, usd: cards * seconds / 60 * cards * card / gb,
            "the memory of {cards} cards is rented with {cards} cards; you counted the cards on one side only",
        ),
        Slip(
            "rent left in",
            lambda gb, card, cards, seconds, usd: cards * seconds * usd / 60 * card / gb,
            "you multiplied by the rent; keeping and computing both pay it",
        ),
        Slip(
            "rent left in",
            lambda gb, card, cards, seconds, usd: cards * seconds / 60 * card / gb / usd,
            "you divided by the rent; keeping and computing both pay it",
        ),
        Slip(
            "share turned over",
            lambda gb, card, cards, seconds, usd: cards * seconds / 60 * gb / card,
            "a cache that is twice as large is twice as dear to keep; in your answer it may stay longer",
        ),
        Slip(
            "seconds for minutes",
            lambda gb, card, cards, seconds, usd: cards * seconds * card / gb,
            "these are seconds; asked are minutes",
        ),
        Slip(
            "hours for minutes",
            lambda gb, card, cards, seconds, usd: cards * seconds / 3_600 * card / gb,
            "these are hours; asked are minutes",
        ),
    ),
)
