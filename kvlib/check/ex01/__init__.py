"""Checks of exercise 01, the KV cache: each takes the learner's function and gives a `Result`."""

from __future__ import annotations

from typing import Any

from kvlib.check.base import Result
from kvlib.check.ex01.designs import BROKEN_RULE, MILLION_TOKENS
from kvlib.check.ex01.layouts import CHATS_THAT_FIT, LATENT_BYTES_PER_TOKEN, WINDOWED_BYTES
from kvlib.check.ex01.plain import BYTES_PER_TOKEN, CONFIG_BYTES_PER_TOKEN, REPAIRED


def broken_rule(function: Any) -> Result:
    """Exercise 1: change one number so that "2 x layers x hidden size" counts at least eight times too many."""
    return BROKEN_RULE.check(function)


def bytes_per_token(function: Any) -> Result:
    """Exercise 2: `function(layers, query_heads, kv_heads, head_dim, bits)`, bytes of one token."""
    return BYTES_PER_TOKEN.check(function)


def config_bytes_per_token(function: Any) -> Result:
    """Exercise 3: `function(config)`, bytes of one token in bf16, from the fields of a config.json."""
    return CONFIG_BYTES_PER_TOKEN.check(function)


def latent_bytes_per_token(function: Any) -> Result:
    """Exercise 4: `function(config)`, bytes of one token in bf16, for a model with MLA."""
    return LATENT_BYTES_PER_TOKEN.check(function)


def windowed_bytes(function: Any) -> Result:
    """Exercise 5: `function(layers, full_every, window, kv_heads, head_dim, tokens, batch)`, bytes in bf16."""
    return WINDOWED_BYTES.check(function)


def chats_that_fit(function: Any) -> Result:
    """Exercise 6: `function(free_gib, bytes_per_token, tokens)`, whole chats."""
    return CHATS_THAT_FIT.check(function)


def repaired(function: Any) -> Result:
    """Exercise 7: `function(config, tokens, batch)`, bytes in bf16 that the repaired calculator gives."""
    return REPAIRED.check(function)


def million_tokens(function: Any) -> Result:
    """Exercise 8: a design that remembers 1,000,000 tokens within the target."""
    return MILLION_TOKENS.check(function)
