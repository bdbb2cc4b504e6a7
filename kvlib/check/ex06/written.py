"""Exercises 4 and 7: the bill of a cache that is written and read, and of a prompt beyond the threshold."""

from __future__ import annotations

from collections.abc import Callable

from kvlib.check.base import Case, Question, Slip
from kvlib.check.ex06 import counted
from kvlib.check.ex06.counted import drawn


def per_million(units: Callable[..., float]) -> Callable[..., float]:
    """USD of tokens times USD per million."""
    return lambda *inputs: units(*inputs) / 1e6


# ---------------------------------------------------------------- exercise 4: write once, read often


def _session(label: str, document: int, question: int, questions: int, usd: tuple[float, float, float]) -> Case:
    """Questions about one document and a price list (input, write, read), for exercise 4."""
    sent = {"document": document, "question": question, "questions": questions}
    return Case(label, {**sent, "usd_input": usd[0], "usd_write": usd[1], "usd_read": usd[2]})


def _drawn_session(seed: int) -> Case:
    """A session of random size at random prices, a write dearer than input and a read cheaper."""
    *sent, new, write, read = drawn(seed, (20_000, 90_000), (50, 900), (3, 20), (100, 300), (310, 600), (10, 90))
    document, question, questions = sent
    label = f"drawn at random ({document:,} tokens, {questions} questions)"
    return _session(label, document, question, questions, (new / 100, write / 100, read / 100))


SONNET, SONNET_HOUR, OPUS, SOL = (3.0, 3.75, 0.30), (3.0, 6.0, 0.30), (4.0, 5.0, 0.20), (2.0, 2.5, 0.10)

SESSION_USD = Question(
    "session_usd",
    "USD",
    cases=(
        _session("Claude Sonnet 4.5, ten questions", 50_000, 200, 10, SONNET),
        _session("the same cache, written for an hour", 50_000, 200, 10, SONNET_HOUR),
        _session("Claude Opus 5.5, three questions", 120_000, 500, 3, OPUS),
        _session("GPT-6.1 Sol, one question only", 80_000, 400, 1, SOL),
        _drawn_session(4),
    ),
    truth=counted.session_usd,
    slips=(
        Slip(
            "cache write forgotten",
            per_million(lambda d, q, n, new, write, read: n * (d * read + q * new)),
            "every request reads the cache in your bill, and nobody has written it",
        ),
        Slip(
            "cache write forgotten",
            per_million(lambda d, q, n, new, write, read: (n - 1) * d * read + n * q * new),
            "the {document:,} tokens of the first request are missing: the cache has to be written",
        ),
        Slip(
            "write at the price of input",
            per_million(lambda d, q, n, new, write, read: d * new + (n - 1) * d * read + n * q * new),
            "you wrote the cache at {usd_input}; writing has a price of its own",
        ),
        Slip(
            "write on top of input",
            per_million(lambda d, q, n, new, write, read: d * (new + write) + (n - 1) * d * read + n * q * new),
            "you billed the first document as input and as written; each token is billed once",
        ),
        Slip(
            "discount taken for free",
            per_million(lambda d, q, n, new, write, read: d * write + n * q * new),
            "reading the cache is cheap, not free: {document:,} tokens at {usd_read}, each time",
        ),
        Slip(
            "one read too many",
            per_million(lambda d, q, n, new, write, read: d * write + n * (d * read + q * new)),
            "the first request finds nothing to read: it writes",
        ),
        Slip(
            "one read only",
            per_million(lambda d, q, n, new, write, read: d * write + d * read + n * q * new),
            "you read the cache once; each request after the first reads it",
        ),
        Slip(
            "written every time",
            per_million(lambda d, q, n, new, write, read: n * (d * write + q * new)),
            "you wrote the cache {questions} times; what is there need not be written again",
        ),
        Slip(
            "nothing cached",
            per_million(lambda d, q, n, new, write, read: n * (d + q) * new),
            "that is the bill without a cache",
        ),
        Slip(
            "questions out of the cache",
            per_million(lambda d, q, n, new, write, read: d * write + (n - 1) * d * read + n * q * read),
            "the questions are new each time, and new tokens are input",
        ),
        Slip(
            "questions written",
            per_million(lambda d, q, n, new, write, read: d * write + (n - 1) * d * read + n * q * write),
            "the questions stand after the mark: they are input and nothing else",
        ),
        Slip(
            "questions forgotten",
            per_million(lambda d, q, n, new, write, read: d * write + (n - 1) * d * read),
            "the questions are missing: {question:,} tokens each time",
        ),
        Slip(
            "one question",
            per_million(lambda d, q, n, new, write, read: d * write + (n - 1) * d * read + q * new),
            "you billed one question; there are {questions}",
        ),
        Slip(
            "price per token",
            lambda d, q, n, new, write, read: d * write + (n - 1) * d * read + n * q * new,
            "the prices are per million tokens",
        ),
    ),
)

# ---------------------------------------------------------------- exercise 7: one token too many


def _prompt(label: str, new: int, cached: int, threshold: int, usd: tuple[float, float]) -> Case:
    """A prompt and a price list (input, cached) up to the threshold, for exercise 7."""
    tokens = {"new": new, "cached": cached, "threshold": threshold}
    return Case(label, {**tokens, "usd_input": usd[0], "usd_cached": usd[1]})


def _drawn_prompt(seed: int) -> Case:
    """A long prompt of random size at random prices."""
    new, cached, price, hit = drawn(seed, (5_000, 60_000), (250_000, 600_000), (100, 300), (10, 90))
    return _prompt(f"drawn at random ({new:,} and {cached:,} tokens)", new, cached, 200_000, (price / 100, hit / 100))


def _times(threshold_counts: Callable[[int, int], int]) -> Callable[[int, int, int], int]:
    """1 or 2, by what is compared with the threshold."""
    return lambda new, cached, threshold: 2 if threshold_counts(new, cached) > threshold else 1


_right = _times(lambda new, cached: new + cached)
_new_only = _times(lambda new, cached: new)
_one_early = _times(lambda new, cached: new + cached + 1)

PROMPT_USD = Question(
    "prompt_usd",
    "USD",
    cases=(
        _prompt("Gemini 2.5 Pro, at the threshold", 200_000, 0, 200_000, (1.25, 0.125)),
        _prompt("Gemini 2.5 Pro, one token more", 200_001, 0, 200_000, (1.25, 0.125)),
        _prompt("Claude Sonnet 4.5, a cached book and a long question", 60_000, 150_000, 200_000, (3.0, 0.30)),
        _prompt("GPT-6.1 Sol, just below", 20_000, 250_000, 272_000, (2.0, 0.10)),
        _drawn_prompt(7),
    ),
    truth=counted.prompt_usd,
    slips=(
        Slip(
            "only the tokens beyond",
            per_million(lambda n, c, t, new, hit: n * new + c * hit + max(0, n + c - t) * new),
            "you made the tokens beyond {threshold:,} dearer; above it the whole request is",
        ),
        Slip(
            "threshold of the new tokens",
            per_million(lambda n, c, t, new, hit: _new_only(n, c, t) * (n * new + c * hit)),
            "you compared the new tokens with the threshold; a prompt is as long as all of it",
        ),
        Slip(
            "dearer at the threshold",
            per_million(lambda n, c, t, new, hit: _one_early(n, c, t) * (n * new + c * hit)),
            "{threshold:,} tokens are still a short prompt: it is dearer above the threshold",
        ),
        Slip(
            "threshold ignored",
            per_million(lambda n, c, t, new, hit: n * new + c * hit),
            "the prompt is longer than {threshold:,} tokens, and you billed it as a short one",
        ),
        Slip(
            "always dear",
            per_million(lambda n, c, t, new, hit: 2 * (n * new + c * hit)),
            "the prompt is not longer than {threshold:,} tokens",
        ),
        Slip(
            "cached tokens stay cheap",
            per_million(lambda n, c, t, new, hit: _right(n, c, t) * n * new + c * hit),
            "above the threshold cached tokens are dearer as well",
        ),
        Slip(
            "discount taken for free",
            per_million(lambda n, c, t, new, hit: _right(n, c, t) * n * new),
            "cached tokens are cheaper, not free",
        ),
        Slip(
            "cached at full price",
            per_million(lambda n, c, t, new, hit: _right(n, c, t) * (n + c) * new),
            "{cached:,} tokens came out of the cache, at a price of their own",
        ),
        Slip(
            "price per token",
            lambda n, c, t, new, hit: _right(n, c, t) * (n * new + c * hit),
            "the prices are per million tokens",
        ),
    ),
)
