"""Checks of exercise 04, speed: each takes the learner's function and gives a `Result`."""

from __future__ import annotations

from typing import Any

from kvlib.check.base import Result
from kvlib.check.ex04.designs import BROKEN_BATCHING, FORTY_TOKENS
from kvlib.check.ex04.reading import EXPERT_BYTES, STEP_BYTES, USERS_AT_SPEED
from kvlib.check.ex04.timing import ALL_REDUCE_MS, FIRST_TOKEN_MS, REQUEST_MS, RIDGE_BATCH


def broken_batching(function: Any) -> Result:
    """Exercise 1: change one number so that a second user is no longer nearly free."""
    return BROKEN_BATCHING.check(function)


def ridge_batch(function: Any) -> Result:
    """Exercise 2: `function(printed_tflops, bandwidth_gb, bits)`, sequences at which weights are compute bound."""
    return RIDGE_BATCH.check(function)


def step_bytes(function: Any) -> Result:
    """Exercise 3: `function(weights, kv_per_token, context, batch)`, bytes that one decode step reads."""
    return STEP_BYTES.check(function)


def expert_bytes(function: Any) -> Result:
    """Exercise 4: `function(shared, expert, experts, per_token, batch)`, average bytes of weights a step reads."""
    return EXPERT_BYTES.check(function)


def first_token_ms(function: Any) -> Result:
    """Exercise 5: `function(total, active, layers, heads, head_dim, tokens, peak_tflops)`, ms to read a prompt."""
    return FIRST_TOKEN_MS.check(function)


def all_reduce_ms(function: Any) -> Result:
    """Exercise 6: `function(tokens, width, layers, gpus, link_gb)`, ms that a prefill's all-reduces take."""
    return ALL_REDUCE_MS.check(function)


def request_ms(function: Any) -> Result:
    """Exercise 7: `function(prompt, output, prefill_tokens_s, step_ms)`, ms from the question to the last token."""
    return REQUEST_MS.check(function)


def users_at_speed(function: Any) -> Result:
    """Exercise 8: `function(weights_gib, cache_mib, bandwidth_gb, step_ms)`, users that a step serves in time."""
    return USERS_AT_SPEED.check(function)


def forty_tokens(function: Any) -> Result:
    """Exercise 9: a layout that gives 256 users forty tokens a second each, on the fewest cards."""
    return FORTY_TOKENS.check(function)
