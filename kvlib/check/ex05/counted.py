"""The truth of exercise 05, found with a ledger: one entry after another, slow on purpose, and no formula to copy."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from kvlib.check.answers import plain

Design = dict[str, int]
Usd = Any  # a Money: a Question types its truths as whole numbers

SECONDS, HOURS_PER_YEAR = 3_600, 8_760
MIB, GB = 2**20, 10**9

# Nodes at work in each hour of a day. The curve is made up; its average, 226.75, and its peak, 278, were published.
DEMAND = (
    *(196, 184, 175, 168, 165, 168, 180, 199, 222, 243, 258, 269),
    *(275, 278, 277, 274, 268, 262, 254, 246, 236, 225, 215, 205),
)
OWN, RESERVED, ON_DEMAND = 1_464, 1_880, 2_360  # cents per node-hour: 8 x 1.83, 8 x 2.35, 8 x 2.95 USD
NODE_USD, BUDGET_USD = 344_000, 50_000_000


class Money(float):
    """An amount that prints like the learner's answers."""

    def __format__(self, spec: str) -> str:
        return plain(float(self))


def margin_percent(revenue: int, cost: int) -> Usd:
    """Profit for every 100 USD of revenue: give the revenue out, dollar by dollar, in a hundred equal heaps."""
    heap = Fraction(revenue, 100)
    return Money(sum(Fraction(1) for _ in range(100)) - Fraction(cost) / heap)


def power_per_hour(watts: int, pue: float, cents_per_kwh: float) -> Usd:
    """USD of an hour: the meter of the building counts every second."""
    second = exact(watts) * exact(pue)  # joules
    joules = sum(second for _ in range(SECONDS))
    return Money(joules / (1_000 * SECONDS) * exact(cents_per_kwh) / 100)


def owned_per_hour(
    card_yen: int, yen_per_usd: float, server_usd: int, network_usd: int, years: int, residual_percent: int
) -> Usd:
    """USD of an hour: write the purchase off year by year down to what it is sold for, then look at one hour."""
    paid = [exact(card_yen) / exact(yen_per_usd), Fraction(server_usd), Fraction(network_usd)]
    lost = sum(part - part * Fraction(residual_percent, 100) for part in paid)
    yearly = [Fraction(lost, years) for _ in range(years)]
    return Money(sum(yearly) / sum(HOURS_PER_YEAR for _ in yearly))


def usd_per_million(usd_per_gpu_hour: float, gpus: int, tokens_per_second: float, utilisation_percent: int) -> Usd:
    """USD per million: a hundred hours are paid, and in some of them the machine writes."""
    paid, written = Fraction(0), Fraction(0)
    for hour in range(100):
        paid += sum(exact(usd_per_gpu_hour) for _ in range(gpus))
        if hour < utilisation_percent:
            written += exact(tokens_per_second) * SECONDS
    return Money(paid / (written / 10**6))


def bill(
    input_tokens: int,
    cached_tokens: int,
    output_tokens: int,
    usd_input: float,
    usd_cached: float,
    usd_output: float,
) -> Usd:
    """USD: three heaps of tokens, each with a price of its own; what is cached is a part of the input."""
    heaps = {"cached": (cached_tokens, usd_cached), "written": (output_tokens, usd_output)}
    heaps["new"] = (input_tokens - cached_tokens, usd_input)
    return Money(sum(Fraction(many, 10**6) * exact(price) for many, price in heaps.values()))


def held_per_hour(cache_gb: int, visible_mib: int, usd_per_gpu_hour: float) -> Usd:
    """USD: price every byte of the card, then count the bytes of the cache."""
    one_byte = exact(usd_per_gpu_hour) / (visible_mib * MIB)
    return Money(one_byte * cache_gb * GB)


def exact(number: float) -> Fraction:
    """The number as it was written: 151.16 is 15116/100, not the float next to it."""
    return Fraction(str(number))


def fleet_cents(design: Design) -> int:
    """Cents of a day: every owned and reserved node in every hour, and by the hour what is missing."""
    total = 0
    for busy in DEMAND:
        total += design["owned"] * OWN + design["reserved"] * RESERVED
        total += sum(ON_DEMAND for _ in range(design["owned"] + design["reserved"], busy))
    return total


def missing_hours(design: Design) -> int:
    """Hours in which the demand is above what is owned and reserved."""
    return sum(busy > design["owned"] + design["reserved"] for busy in DEMAND)
