"""The truth of exercise 07, found the slow way: by halving, by a softmax over every token, by asking one by one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from statistics import NormalDist
from typing import Any

from kvlib.check.ex05.counted import Money, exact
from kvlib.check.ex06.counted import drawn as drawn

Real = Any  # a Money, which prints like an answer: a Question types its truths as whole numbers

Z = NormalDist().inv_cdf(0.975)
HALVINGS = 100  # more than a float has digits


def effective_length(accuracy: Mapping[int, float]) -> int:
    """Every length that passes together with all shorter ones; the longest of them."""
    base = exact(accuracy[min(accuracy)])
    good = {tokens for tokens, share in accuracy.items() if 100 * exact(share) >= 85 * base}
    return max(tokens for tokens in accuracy if all(shorter in good for shorter in accuracy if shorter <= tokens))


def wilson_high(right: int, n: int) -> Real:
    """Halve the rates from what was seen up to 1: is what was seen still within Z standard errors of the rate?"""
    seen = right / n
    plausible, too_high = seen, 1.0
    if right == n:
        return Money(1)
    for _ in range(HALVINGS):
        rate = (plausible + too_high) / 2
        if rate - seen <= Z * math.sqrt(rate * (1 - rate) / n):
            plausible = rate
        else:
            too_high = rate
    return Money(plausible)


def needle_mass(tokens: int, mass: float, longer: int) -> Real:
    """Find the needle's score in the first softmax by halving, then put it into a softmax of the other length."""
    low, high = -50.0, 50.0
    for _ in range(HALVINGS):
        score = (low + high) / 2
        if _softmax_of_first(score, tokens) < mass:
            low = score
        else:
            high = score
    return Money(_softmax_of_first(low, longer))


def _softmax_of_first(score: float, tokens: int) -> float:
    """Attention on the first of `tokens` tokens; the others score 0, the level that scores are measured from."""
    powers = [math.exp(score), *[1.0] * (tokens - 1)]
    return powers[0] / math.fsum(powers)


def share_after(share: float, gone: Sequence[float]) -> Real:
    """A softmax without the deleted sentences: what is left is divided by its own sum."""
    kept = {"needle": exact(share), "others": 1 - exact(share) - sum(map(exact, gone))}
    return Money(kept["needle"] / sum(kept.values()))


def usd_per_right(
    input_tokens: int, output_tokens: int, right: int, n: int, usd_input: float, usd_output: float
) -> Real:
    """USD: pay for every request as it comes, and share the bill among the right answers."""
    paid, useful = Fraction(0), 0
    for request in range(n):
        paid += input_tokens * exact(usd_input) / 10**6 + output_tokens * exact(usd_output) / 10**6
        useful += request < right
    return Money(paid / useful)
