"""Checks of exercise 03, the cluster: each takes the learner's function and gives a `Result`."""

from __future__ import annotations

from typing import Any

from kvlib.check.base import Result
from kvlib.check.ex03.designs import BROKEN_HALVING, SIXTY_FOUR_USERS
from kvlib.check.ex03.rooms import CACHE_ROOM, EXPERT_WEIGHTS, USERS_THAT_FIT
from kvlib.check.ex03.shares import LATENT_TOKENS, STAGE_BYTES, TOKEN_ON_GPU


def broken_halving(function: Any) -> Result:
    """Exercise 1: change one number so that twice as many GPUs do not halve the cache on each of them."""
    return BROKEN_HALVING.check(function)


def token_on_gpu(function: Any) -> Result:
    """Exercise 2: `function(layers, kv_heads, head_dim, tp)`, bytes in bf16 of one token on each GPU."""
    return TOKEN_ON_GPU.check(function)


def latent_tokens(function: Any) -> Result:
    """Exercise 3: `function(free_bytes, layers, rank, rope_dim, tp, dcp)`, tokens that the GPUs remember together."""
    return LATENT_TOKENS.check(function)


def cache_room(function: Any) -> Result:
    """Exercise 4: `function(gpus, label_gb, visible_mib, percent, weights, non_torch, activation)`, MiB for caches."""
    return CACHE_ROOM.check(function)


def stage_bytes(function: Any) -> Result:
    """Exercise 5: `function(layers, pp, tp, kv_heads, head_dim, tokens)`, bytes in bf16 on the fullest GPU."""
    return STAGE_BYTES.check(function)


def users_that_fit(function: Any) -> Result:
    """Exercise 6: `function(gpus, room, weights, cache)`, users of one shared copy of the weights; sizes in bytes."""
    return USERS_THAT_FIT.check(function)


def expert_weights(function: Any) -> Result:
    """Exercise 7: `function(shared, expert, experts, spare, ep)`, bytes of weights on each GPU."""
    return EXPERT_WEIGHTS.check(function)


def sixty_four_users(function: Any) -> Result:
    """Exercise 8: a layout for 64 users at 32,768 tokens on the fewest cards."""
    return SIXTY_FOUR_USERS.check(function)
