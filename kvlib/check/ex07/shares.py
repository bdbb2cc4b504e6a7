"""Exercises 4 and 5: the needle's share of the attention when the prompt grows, and when sentences are deleted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from kvlib.check.base import Case, Question, Slip
from kvlib.check.ex07 import counted
from kvlib.check.ex07.counted import drawn

# ---------------------------------------------------------------- exercise 4: the law of dilution


def _longer(label: str, tokens: int, mass: float, longer: int) -> Case:
    """A needle's attention at one length, and another length; for exercise 4."""
    return Case(label, {"tokens": tokens, "mass": mass, "longer": longer})


def _drawn_longer(seed: int) -> Case:
    """Random attention at a random length, and a longer prompt."""
    tokens, percent, times = drawn(seed, (100, 900), (30, 90), (3, 9))
    return _longer(f"drawn at random ({percent} % of {tokens} tokens)", tokens, percent / 100, tokens * times)


def _contrast(tokens: int, mass: float) -> float:
    """Delta: how far the needle scores above the other tokens, in nats."""
    return math.log((tokens - 1) * mass / (1 - mass))


def _law(others: float, delta: float) -> float:
    return 1 / (1 + others * math.exp(-delta))


def _with_delta(wrong: Callable[[float], float]) -> Callable[[int, float, int], float]:
    """The law at the new length, with delta made wrong."""
    return lambda tokens, mass, longer: _law(longer - 1, wrong(_contrast(tokens, mass)))


NEEDLE_MASS = Question(
    "needle_mass",
    "of the attention",
    cases=(
        _longer("half of 101 tokens, then 201", 101, 0.5, 201),
        _longer("0.9 of 256 tokens, then 4,096", 256, 0.9, 4_096),
        _longer("0.3 of 1,024 tokens, then 16,384", 1_024, 0.3, 16_384),
        _longer("0.05 of 8,192 tokens, then only 17", 8_192, 0.05, 17),
        _longer("0.8 of 2 tokens, then 3", 2, 0.8, 3),
        _drawn_longer(4),
    ),
    truth=counted.needle_mass,
    slips=(
        Slip(
            "attention frozen",
            lambda tokens, mass, longer: mass,
            "you left the attention as it was; what stays is the needle's score, and there are other tokens now",
        ),
        Slip(
            "N instead of N - 1",
            lambda tokens, mass, longer: 1 / (1 + (1 - mass) / mass * longer / tokens),
            "you counted the needle among the noise",
        ),
        Slip(
            "N instead of N - 1",
            lambda tokens, mass, longer: _law(longer, _contrast(tokens, mass)),
            "you counted the needle among the noise, at the new length",
        ),
        Slip(
            "N instead of N - 1",
            lambda tokens, mass, longer: _law(longer - 1, math.log(tokens * mass / (1 - mass))),
            "you counted the needle among the noise, at the first length",
        ),
        Slip(
            "in proportion",
            lambda tokens, mass, longer: mass * tokens / longer,
            "you let the attention fall as 1 over the tokens; a needle that has nearly all of it loses less at first",
        ),
        Slip(
            "in proportion",
            lambda tokens, mass, longer: mass * (tokens - 1) / (longer - 1),
            "you let the attention fall as 1 over the tokens; a needle that has nearly all of it loses less at first",
        ),
        Slip(
            "delta with the wrong sign",
            _with_delta(lambda delta: -delta),
            "you let the needle score as far below the others as it scores above them",
        ),
        Slip(
            "log with another base",
            _with_delta(lambda delta: delta / math.log(10)),
            "your logarithm has the base 10 and your power the base e; they undo each other only with one base",
        ),
        Slip(
            "log with another base",
            _with_delta(lambda delta: delta / math.log(2)),
            "your logarithm has the base 2 and your power the base e; they undo each other only with one base",
        ),
        Slip(
            "log with another base",
            _with_delta(lambda delta: delta * math.log(10)),
            "your power has the base 10 and your logarithm the base e; they undo each other only with one base",
        ),
        Slip(
            "log with another base",
            _with_delta(lambda delta: delta * math.log(2)),
            "your power has the base 2 and your logarithm the base e; they undo each other only with one base",
        ),
        Slip(
            "odds turned over",
            lambda tokens, mass, longer: 1 / (1 + mass / (1 - mass) * (longer - 1) / (tokens - 1)),
            "you grew the needle's odds; it is the noise that grows",
        ),
        Slip(
            "length turned over",
            lambda tokens, mass, longer: 1 / (1 + (1 - mass) / mass * (tokens - 1) / (longer - 1)),
            "in your answer a longer prompt has less noise",
        ),
        Slip(
            "the others' attention",
            lambda tokens, mass, longer: 1 - counted.needle_mass(tokens, mass, longer),
            "that is what the other tokens get",
        ),
        Slip(
            "odds for attention",
            lambda tokens, mass, longer: (1 - mass) / mass * (longer - 1) / (tokens - 1),
            "these are the odds of noise against needle; asked is the needle's share of all attention",
        ),
        Slip(
            "delta for attention",
            lambda tokens, mass, longer: _contrast(tokens, mass),
            "that is how far the needle stands out, in nats; asked is its share of the attention",
        ),
        Slip(
            "percent",
            lambda tokens, mass, longer: 100 * counted.needle_mass(tokens, mass, longer),
            "that is in percent; asked is a share between 0 and 1",
        ),
    ),
)

# ---------------------------------------------------------------- exercise 5: sentences deleted


def _deleted(label: str, share: float, *gone: float) -> Case:
    """The needle's share, and those of the sentences that are deleted; for exercise 5."""
    return Case(label, {"share": share, "gone": list(gone)})


def _drawn_deleted(seed: int) -> Case:
    """Two random sentences deleted."""
    share, first, second = (percent / 100 for percent in drawn(seed, (10, 35), (20, 30), (5, 15)))
    return _deleted("drawn at random (two deleted)", share, first, second)


def _one_by_one(share: float, gone: Sequence[float]) -> float:
    for each in gone:
        share /= 1 - each
    return share


SHARE_AFTER = Question(
    "share_after",
    "of the attention",
    cases=(
        _deleted("0.3 on the needle, a sentence with 0.2 deleted", 0.3, 0.2),
        _deleted("the loudest rival deleted", 0.12, 0.76),
        _deleted("two rivals deleted", 0.25, 0.4, 0.1),
        _deleted("a hundred sentences of filler deleted", 0.4, *[0.001] * 100),
        _deleted("nothing deleted", 0.31),
        _drawn_deleted(5),
    ),
    truth=counted.share_after,
    slips=(
        Slip(
            "nothing changes",
            lambda share, gone: share,
            "shares add up to 1, before and after; who gets what has become free?",
        ),
        Slip(
            "all of it to the needle",
            lambda share, gone: share + sum(gone),
            "you gave all that has become free to the needle; the other sentences are still there",
        ),
        Slip(
            "a share of the share",
            lambda share, gone: share * (1 + sum(gone)),
            "nearly, while little is deleted: in your answer the shares that are left do not add up to 1",
        ),
        Slip(
            "smaller instead of larger",
            lambda share, gone: share * (1 - sum(gone)),
            "in your answer the needle loses attention when a rival goes",
        ),
        Slip(
            "old shares, one by one",
            _one_by_one,
            "after the first deletion the second sentence has another share than the one you used",
        ),
        Slip(
            "the first only",
            lambda share, gone: share / (1 - sum(gone[:1])),
            "you deleted the first sentence only; `gone` holds one share for each that went",
        ),
        Slip(
            "divided by what has gone",
            lambda share, gone: share / sum(gone),
            "you divided by what has gone; what is left has to add up to 1",
        ),
        Slip(
            "the needle left out",
            lambda share, gone: share / (1 - sum(gone) - share),
            "that is the needle against the other sentences; its share is of all that is left, itself included",
        ),
        Slip(
            "percent",
            lambda share, gone: 100 * share / (1 - sum(gone)),
            "that is in percent; asked is a share between 0 and 1",
        ),
    ),
)
