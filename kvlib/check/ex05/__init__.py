"""Checks of exercise 05, the cost: each takes the learner's function and gives a `Result`."""

from __future__ import annotations

from typing import Any

from kvlib.check.base import Result
from kvlib.check.ex05.designs import BROKEN_RULE, FLEET
from kvlib.check.ex05.hours import HELD_PER_HOUR, OWNED_PER_HOUR, POWER_PER_HOUR
from kvlib.check.ex05.tokens import BILL, MARGIN_PERCENT, USD_PER_MILLION


def broken_rule(function: Any) -> Result:
    """Exercise 1: change one number so that "price / rent" finds less than half of the hours until buying pays."""
    return BROKEN_RULE.check(function)


def margin_percent(function: Any) -> Result:
    """Exercise 2: `function(revenue, cost)`, the margin in percent."""
    return MARGIN_PERCENT.check(function)


def power_per_hour(function: Any) -> Result:
    """Exercise 3: `function(watts, pue, cents_per_kwh)`, USD per hour."""
    return POWER_PER_HOUR.check(function)


def owned_per_hour(function: Any) -> Result:
    """Exercise 4: `function(card_yen, yen_per_usd, server_usd, network_usd, years, residual_percent)`, USD per hour."""
    return OWNED_PER_HOUR.check(function)


def usd_per_million(function: Any) -> Result:
    """Exercise 5: `function(usd_per_gpu_hour, gpus, tokens_per_second, utilisation_percent)`, USD per million."""
    return USD_PER_MILLION.check(function)


def bill(function: Any) -> Result:
    """Exercise 6: `function(input_tokens, cached_tokens, output_tokens, usd_input, usd_cached, usd_output)`, USD."""
    return BILL.check(function)


def held_per_hour(function: Any) -> Result:
    """Exercise 7: `function(cache_gb, visible_mib, usd_per_gpu_hour)`, USD per hour for the memory of a cache."""
    return HELD_PER_HOUR.check(function)


def fleet(function: Any) -> Result:
    """Exercise 8: machines to own and to reserve for a day of changing demand, within the budget."""
    return FLEET.check(function)
