"""Checks of exercise 06, context caches: each takes the learner's function and gives a `Result`."""

from __future__ import annotations

from typing import Any

from kvlib.check.base import Result
from kvlib.check.ex06.designs import LOSING_CACHE, PROMPT_ORDER
from kvlib.check.ex06.idle import PAUSE_MINUTES
from kvlib.check.ex06.prefixes import HIT_TOKENS, SHARED_TOKENS
from kvlib.check.ex06.rented import FEWEST_REQUESTS, KEPT_USD
from kvlib.check.ex06.written import PROMPT_USD, SESSION_USD


def losing_cache(function: Any) -> Result:
    """Exercise 1: change one number so that the session costs more with the cache than without."""
    return LOSING_CACHE.check(function)


def shared_tokens(function: Any) -> Result:
    """Exercise 2: `function(first, second)`, tokens with which both prompts begin."""
    return SHARED_TOKENS.check(function)


def hit_tokens(function: Any) -> Result:
    """Exercise 3: `function(shared, prompt, block)`, tokens that an engine finds in its cache."""
    return HIT_TOKENS.check(function)


def session_usd(function: Any) -> Result:
    """Exercise 4: `function(document, question, questions, usd_input, usd_write, usd_read)`, USD of a session."""
    return SESSION_USD.check(function)


def kept_usd(function: Any) -> Result:
    """Exercise 5: `function(document, question, questions, hours, usd_input, usd_cached, usd_storage)`, USD."""
    return KEPT_USD.check(function)


def fewest_requests(function: Any) -> Result:
    """Exercise 6: `function(hours, usd_input, usd_cached, usd_storage)`, requests that make a kept cache cheaper."""
    return FEWEST_REQUESTS.check(function)


def prompt_usd(function: Any) -> Result:
    """Exercise 7: `function(new, cached, threshold, usd_input, usd_cached)`, USD of a prompt that may be a long one."""
    return PROMPT_USD.check(function)


def pause_minutes(function: Any) -> Result:
    """Exercise 8: `function(cache_gb, card_gb, cards, prefill_seconds, usd_per_gpu_hour)`, minutes worth keeping."""
    return PAUSE_MINUTES.check(function)


def prompt_order(function: Any) -> Result:
    """Exercise 9: the places of a prompt's six parts, and the life of the cache, for a morning of six users."""
    return PROMPT_ORDER.check(function)
