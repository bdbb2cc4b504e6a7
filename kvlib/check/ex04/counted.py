"""The truth of exercise 04, found by going through users, tokens and messages one by one: slow on purpose."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from kvlib.check.answers import plain

Design = dict[str, int]

GiB = 2**30


class Exact(Fraction):
    """A Fraction that is printed as a rounded decimal number."""

    def __format__(self, _spec: str) -> str:
        return plain(self)


def ridge_batch(printed_tflops: int, bandwidth_gb: int, bits: float) -> Any:
    """Sequences whose arithmetic on one weight takes as long as fetching it; the printed FLOP/s assume sparsity."""
    dense = Fraction(printed_tflops * 10**12, 2)
    one_weight = Fraction(bits) / 8 / (bandwidth_gb * 10**9)  # seconds to fetch
    multiply, add = 1 / dense, 1 / dense
    return Exact(one_weight / (multiply + add))


def step_bytes(weights: int, kv_per_token: int, context: int, batch: int) -> int:
    """Bytes that one decode step reads: the weights once, then every user's cache."""
    total = weights
    for _user in range(batch):
        total += kv_per_token * context
    return total


def read_share(experts: int, per_token: int, batch: int) -> Fraction:
    """Expected share of the experts that a batch reads: token by token, what is still unread shrinks."""
    unread = Fraction(1)
    for _token in range(batch):
        unread -= unread * per_token / experts
    return 1 - unread


def expert_bytes(shared: int, expert: int, experts: int, per_token: int, batch: int) -> Any:
    """Bytes of weights that a decode step of a mixture of experts reads, on average."""
    return Exact(shared + experts * read_share(experts, per_token, batch) * expert)


def attended_pairs(tokens: int) -> int:
    """(query, key) pairs of a causal prefill: each token looks at all before it and at itself."""
    return sum(range(1, tokens + 1))


def first_token_ms(
    total: int, active: int, layers: int, heads: int, head_dim: int, tokens: int, peak_tflops: int
) -> Any:
    """Milliseconds to read a prompt at full peak: a multiply-add is two FLOPs, for weights, scores and mixing."""
    weights = 2 * active * tokens
    attention = 0
    for _layer in range(layers):
        attention += 2 * 2 * heads * head_dim * attended_pairs(tokens)
    return Exact(weights + attention, peak_tflops * 10**9)


def ring_bytes(message: int, gpus: int) -> Fraction:
    """Bytes that each GPU sends so that all have the sum: the message in `gpus` pieces, passed on around the ring."""
    sent = Fraction(0)
    for _half in ("add up", "hand out"):
        for _step in range(gpus - 1):
            sent += Fraction(message, gpus)
    return sent


def all_reduce_ms(tokens: int, width: int, layers: int, gpus: int, link_gb: int) -> Any:
    """Milliseconds of the all-reduces of a prefill in bf16; the printed link speed is the sum of both directions."""
    one_way = Fraction(link_gb * 10**9, 2)
    total = Fraction(0)
    for _layer in range(layers):
        for _part in ("attention", "MLP"):
            total += ring_bytes(2 * tokens * width, gpus) / one_way
    return Exact(total * 1000)


def request_ms(prompt: int, output: int, prefill_tokens_s: int, step_ms: int) -> Any:
    """Milliseconds from the question to the last token: the prefill gives the first, each step one more."""
    total = Fraction(prompt * 1000, prefill_tokens_s)
    for _token in range(output - 1):
        total += step_ms
    return Exact(total)


def users_at_speed(weights_gib: int, cache_mib: int, bandwidth_gb: int, step_ms: int) -> int:
    """Users that one step can serve in time: one more as long as all bytes are read before the time is over."""
    budget = Fraction(bandwidth_gb * 10**9 * step_ms, 1000)
    users, read = 0, weights_gib * GiB
    while read + cache_mib * 2**20 <= budget:
        read += cache_mib * 2**20
        users += 1
    return users
