"""Checks of exercise 02, one GPU: each takes the learner's function and gives a `Result`."""

from __future__ import annotations

from typing import Any

from kvlib.check.base import Result
from kvlib.check.ex02.blocks import HYBRID_BLOCK, POOL_TOKENS, PRINTED_TOKENS
from kvlib.check.ex02.card import ROOM_FOR_CACHE, SHOWN_BYTES
from kvlib.check.ex02.published import REPAIRED_ENTRY, REPAIRED_SERVER
from kvlib.check.ex02.service import SIXTY_FOUR_USERS


def shown_bytes(function: Any) -> Result:
    """Exercise 1: `function(label_gb, mib)`, the bytes that a driver shows."""
    return SHOWN_BYTES.check(function)


def room_for_cache(function: Any) -> Result:
    """Exercise 2: `function(total, percent, weights, tp, non_torch, activation)`, MiB for the cache on each GPU."""
    return ROOM_FOR_CACHE.check(function)


def pool_tokens(function: Any) -> Result:
    """Exercise 3: `function(room_mib, layers, kv_heads, head_dim, bits)`, tokens in whole blocks of 16."""
    return POOL_TOKENS.check(function)


def repaired_server(function: Any) -> Result:
    """Exercise 4: `function(server)`, tokens in whole blocks of 16 that the repaired calculator gives."""
    return REPAIRED_SERVER.check(function)


def repaired_entry(function: Any) -> Result:
    """Exercise 5: `function(layers, rank, rope_dim, indexer_dim, tp)`, bytes of one token on each GPU."""
    return REPAIRED_ENTRY.check(function)


def hybrid_block(function: Any) -> Result:
    """Exercise 6: `function(state_bytes, kv_heads, head_dim, bits)`, tokens in a block."""
    return HYBRID_BLOCK.check(function)


def printed_tokens(function: Any) -> Result:
    """Exercise 7: `function(blocks, groups, block, per_request, max_model_len, minor)`, the number in the log."""
    return PRINTED_TOKENS.check(function)


def sixty_four_users(function: Any) -> Result:
    """Exercise 8: settings under which one card serves 64 users at 32K tokens."""
    return SIXTY_FOUR_USERS.check(function)
