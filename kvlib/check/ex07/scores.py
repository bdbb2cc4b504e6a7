"""Exercises 2 and 3: how far a prompt may grow, and how sure a rate is."""

from __future__ import annotations

import math
from collections.abc import Mapping

from kvlib.check.base import Case, Question, Slip
from kvlib.check.ex07 import counted
from kvlib.check.ex07.counted import Z, drawn

# ---------------------------------------------------------------- exercise 2: effective length

Accuracy = Mapping[int, float]
SHARE = 0.85


def _curve(label: str, **percent: int) -> Case:
    """Accuracies in percent by length, as `t256=100`, in the order in which they are given; for exercise 2."""
    return Case(label, {"accuracy": {int(name[1:]): share / 100 for name, share in percent.items()}})


def _drawn_curve(seed: int) -> Case:
    """Six lengths whose accuracy falls by random steps, the first four small ones."""
    start, *steps = drawn(seed, (90, 99), *[(1, 3)] * 4, (15, 30))
    lengths = [512 * 2**power for power in range(6)]
    percent = {f"t{tokens}": start - sum(steps[:place]) for place, tokens in enumerate(lengths)}
    return _curve("drawn at random", **percent)


def _passes(accuracy: Accuracy, base: float) -> list[int]:
    return [tokens for tokens in sorted(accuracy) if accuracy[tokens] >= SHARE * base]


def _up_to_the_first_miss(accuracy: Accuracy, lengths: list[int], least: float) -> int:
    """Walk along `lengths` and stop before the first below `least`; 0 if that is the first."""
    reached = 0
    for tokens in lengths:
        if accuracy[tokens] < least:
            break
        reached = tokens
    return reached


def _first_miss(accuracy: Accuracy) -> int:
    least = SHARE * accuracy[min(accuracy)]
    return min((tokens for tokens, share in accuracy.items() if share < least), default=max(accuracy))


def _strictly(accuracy: Accuracy) -> int:
    above = {tokens: share - 1e-9 for tokens, share in accuracy.items()}
    return _up_to_the_first_miss(above, sorted(accuracy), SHARE * accuracy[min(accuracy)])


EFFECTIVE_LENGTH = Question(
    "effective_length",
    "tokens",
    cases=(
        _curve("a slow fall", t256=100, t512=98, t1024=96, t2048=91, t4096=84, t8192=40),
        _curve("a model that misses some at any length", t256=80, t512=79, t1024=77, t2048=72, t4096=60),
        _curve("a dip and a recovery", t256=100, t512=97, t1024=82, t2048=93, t4096=70),
        _curve("exactly at the line, and a better second length", t256=80, t512=96, t1024=75, t2048=68, t4096=50),
        _curve("a table that starts with the longest", t8192=40, t4096=74, t2048=91, t1024=96, t256=100),
        _curve("never below the line", t256=100, t512=99, t1024=99, t2048=97),
        _drawn_curve(2),
    ),
    truth=counted.effective_length,
    slips=(
        Slip(
            "the last that is high enough",
            lambda accuracy: max(_passes(accuracy, accuracy[min(accuracy)])),
            "there is a shorter length that falls short; would you promise a user the lengths in between?",
        ),
        Slip(
            "85 % of all answers",
            lambda accuracy: _up_to_the_first_miss(accuracy, sorted(accuracy), SHARE),
            "you asked for 85 % right answers; asked is 85 % of what the model reaches at the shortest length",
        ),
        Slip(
            "the best for the base",
            lambda accuracy: _up_to_the_first_miss(accuracy, sorted(accuracy), SHARE * max(accuracy.values())),
            "you compared with the best length; the base is the shortest",
        ),
        Slip(
            "the first that falls short",
            _first_miss,
            "that is the first length that falls short; how far did it hold?",
        ),
        Slip(
            "the longest measured",
            lambda accuracy: max(accuracy),
            "that is the longest prompt that was tried, and not one that still works",
        ),
        Slip(
            "the line itself left out",
            _strictly,
            "a length at exactly 85 % of the base still counts",
        ),
        Slip(
            "the order of the table",
            lambda accuracy: _up_to_the_first_miss(
                accuracy, list(accuracy), SHARE * next(share for share in accuracy.values())
            ),
            "you went through the lengths in the order of the table; a table may start with the longest",
        ),
        Slip(
            "accuracy for length",
            lambda accuracy: accuracy[counted.effective_length(accuracy)],
            "that is the accuracy there; asked is the length, in tokens",
        ),
    ),
)

# ---------------------------------------------------------------- exercise 3: a rate and its interval

Z90, ROUNDED = 1.6448536269514722, 1.96


def _seen(label: str, right: int, n: int) -> Case:
    """Right answers of n, for exercise 3."""
    return Case(label, {"right": right, "n": n})


def _drawn_seen(seed: int) -> Case:
    """A random cell of a heatmap."""
    n, right = drawn(seed, (20, 60), (5, 18))
    return _seen(f"drawn at random ({right} of {n})", right, n)


def _error(right: int, n: int) -> float:
    """Standard error of the share that was seen."""
    return math.sqrt(right / n * (1 - right / n) / n)


def _wilson(right: int, n: int, z: float = Z, side: int = 1) -> float:
    """The end of Wilson's interval on one side of its middle."""
    share, extra = right / n, z * z / n
    half = z * math.sqrt(share * (1 - share) / n + extra / (4 * n))
    return 0.0 if side < 0 and right == 0 else (share + extra / 2 + side * half) / (1 + extra)


def _two_more(right: int, n: int) -> float:
    """The normal interval after two right and two wrong answers were added."""
    return (right + 2) / (n + 4) + Z * _error(right + 2, n + 4)


WILSON_HIGH = Question(
    "wilson_high",
    "of all answers",
    cases=(
        _seen("a cell with one trial, wrong", 0, 1),
        _seen("none of 10", 0, 10),
        _seen("7 of 10", 7, 10),
        _seen("10 of 10", 10, 10),
        _seen("15 of 30", 15, 30),
        _seen("570 of 600", 570, 600),
        _drawn_seen(3),
    ),
    truth=counted.wilson_high,
    slips=(
        Slip(
            "the normal interval",
            lambda right, n: right / n + Z * _error(right, n),
            "{right} of {n}: you took the standard error of the rate that was seen; at 0 it is nothing, and one wrong "
            "answer would settle everything",
        ),
        Slip(
            "the normal interval",
            lambda right, n: min(1.0, right / n + Z * _error(right, n)),
            "{right} of {n}: you took the standard error of the rate that was seen; at 0 it is nothing, and one wrong "
            "answer would settle everything",
        ),
        Slip(
            "another z",
            lambda right, n: _wilson(right, n, Z90),
            "this is the end of a 90 % interval: 5 % lie above it, and asked is 2.5 %",
        ),
        Slip(
            "another z",
            lambda right, n: _wilson(right, n, 1.0),
            "you went one standard error far; asked is an interval of 95 %",
        ),
        Slip(
            "z rounded",
            lambda right, n: _wilson(right, n, ROUNDED),
            "nearly: you took a rounded z; use Z as it is",
        ),
        Slip(
            "z rounded",
            lambda right, n: _wilson(right, n, 2.0),
            "nearly: you took a rounded z; use Z as it is",
        ),
        Slip(
            "the lower end",
            lambda right, n: _wilson(right, n, side=-1),
            "that is the lower end of the interval",
        ),
        Slip(
            "the middle",
            lambda right, n: _wilson(right, n, side=0),
            "that is the middle of the interval",
        ),
        Slip(
            "the share itself",
            lambda right, n: right / n,
            "that is what was seen; asked is the highest rate that could be behind it",
        ),
        Slip(
            "spread for error",
            lambda right, n: right / n + Z * math.sqrt(right / n * (1 - right / n)),
            "you took the spread of a single answer; the mean of {n} is steadier",
        ),
        Slip(
            "two and two",
            _two_more,
            "you added two right and two wrong answers and took the normal interval: near, but not Wilson's",
        ),
        Slip(
            "percent",
            lambda right, n: 100 * _wilson(right, n),
            "that is in percent; asked is a share between 0 and 1",
        ),
    ),
)
