"""The truth of exercise 02, counted block by block and byte by byte: slow on purpose, and no formula to copy."""

from __future__ import annotations

from typing import Any

_MIB = 1024 * 1024


def shown_bytes(label_gb: int, mib: int) -> int:
    """Bytes of a card: add up its MiB. The label plays no part."""
    return sum(_MIB for _one in range(mib))


def room_for_cache(total: int, percent: int, weights: int, tp: int, non_torch: int, activation: int) -> int:
    """MiB for the cache on the first of `tp` GPUs: colour one MiB after the other, and count what is left."""
    allowed = [number for number in range(1, total + 1) if number * 100 <= total * percent]
    mine = len(range(0, weights, tp))  # the weights are dealt out like cards
    for part in (mine, non_torch, activation):
        del allowed[:part]
    return len(allowed)


def block_bytes(layers: int, kv_heads: int, head_dim: int, bits: int, tokens: int = 16) -> int:
    """Bytes of a block of `tokens` tokens: every layer, head, key and value of each."""
    total_bits = 0
    for _token in range(tokens):
        for _layer in range(layers):
            for _head in range(kv_heads):
                for _part in ("key", "value"):
                    total_bits += sum(bits for _number in range(head_dim))
    return len(range(0, total_bits, 8))


def pool_tokens(room_mib: int, layers: int, kv_heads: int, head_dim: int, bits: int) -> int:
    """Tokens: cut blocks off the memory until there is no whole one left."""
    return _cut(sum(_MIB for _one in range(room_mib)), block_bytes(layers, kv_heads, head_dim, bits))


def _cut(free: int, block: int, tokens: int = 16) -> int:
    """Tokens in the whole blocks of a memory."""
    held = 0
    while free >= block:
        free -= block
        held += tokens
    return held


def repaired_server(server: dict[str, Any]) -> int:
    """Tokens of a server: what the driver shows, the cache in its own format."""
    room = room_for_cache(
        server["visible_mib"], server["percent"], server["weights_mib"], 1, server["other_mib"], activation=0
    )
    bits = sum(server["kv_bits"] for _token in range(16) for _number in range(server["numbers_per_token"]))
    return _cut(sum(_MIB for _one in range(room)), len(range(0, bits, 8)))


def repaired_entry(layers: int, rank: int, rope_dim: int, indexer_dim: int, tp: int) -> int:
    """Bytes of one token: write every number of every layer down, and a scale before each 128 in fp8. Any rank."""
    total = 0
    for _layer in range(layers):
        for stored in (rank, indexer_dim):
            for place in range(stored):
                total += 1 + (4 if place % 128 == 0 else 0)
        total += sum(2 for _number in range(rope_dim))
    return total


def hybrid_block(state_bytes: int, kv_heads: int, head_dim: int, bits: int) -> int:
    """Tokens in a block: sixteen more, and again, until a page of one layer holds a state."""
    tokens = 16
    while block_bytes(1, kv_heads, head_dim, bits, tokens=1) * tokens < state_bytes:
        tokens += 16
    return tokens


def printed_tokens(blocks: int, groups: int, block: int, per_request: int, max_model_len: int, minor: int) -> int:
    """The number in the log of vLLM 0.`minor`."""
    if minor <= 20:  # deal the blocks out to the groups; an incomplete round does not count
        rounds = 0
        while blocks >= groups:
            blocks -= groups
            rounds += 1
        return sum(block for _round in range(rounds))
    low, high = 0, blocks * max_model_len  # the most tokens at which the requests' blocks still suffice
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle * per_request <= blocks * max_model_len else (low, middle - 1)
    return low


def users_served(free: int, block: int, request_tokens: int) -> int:
    """Users at the same time: hand blocks to one after the other until the next one gets too few."""
    users = 0
    needed = len(range(0, request_tokens, 16))
    while True:
        for _block in range(needed):
            if free < block:
                return users
            free -= block
        users += 1
