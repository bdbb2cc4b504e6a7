"""The truth of exercise 01, counted one number at a time: slow on purpose, and without a single formula to copy."""

from __future__ import annotations

from typing import Any

Config = dict[str, Any]


def numbers_per_token(layers: int, kv_heads: int, head_dim: int) -> int:
    """Numbers that one token leaves behind: walk over every layer, head, key and value, and count."""
    count = 0
    for _layer in range(layers):
        for _head in range(kv_heads):
            for _part in ("key", "value"):
                for _number in range(head_dim):
                    count += 1
    return count


def bytes_per_token(layers: int, query_heads: int, kv_heads: int, head_dim: int, bits: int) -> int:
    """Bytes of one token: lay the bits of every number end to end, then cut them into bytes."""
    total_bits = sum(bits for _number in range(numbers_per_token(layers, kv_heads, head_dim)))
    return len(range(0, total_bits, 8))


def config_bytes_per_token(config: Config) -> int:
    """Bytes of one token in bf16: what the config says, else what transformers assumes when a field is absent."""
    kv_heads, head_dim = config.get("num_key_value_heads"), config.get("head_dim")
    if kv_heads is None:
        kv_heads = config["num_attention_heads"]
    if head_dim is None:
        head_dim = len(range(0, config["hidden_size"], config["num_attention_heads"]))
    return sum(2 for _number in range(numbers_per_token(config["num_hidden_layers"], kv_heads, head_dim)))


def latent_bytes_per_token(config: Config) -> int:
    """Bytes of one token with MLA in bf16: in every layer one latent and one rotary key."""
    total = 0
    for _layer in range(config["num_hidden_layers"]):
        for part in ("kv_lora_rank", "qk_rope_head_dim"):
            total += sum(2 for _number in range(config[part]))
    return total


def windowed_bytes(
    layers: int, full_every: int, window: int, kv_heads: int, head_dim: int, tokens: int, batch: int
) -> int:
    """Bytes in bf16: ask for every token, in every layer of every chat, whether it is still held."""
    one_token = sum(2 for _number in range(numbers_per_token(1, kv_heads, head_dim)))
    total = 0
    for _chat in range(batch):
        for layer in range(1, layers + 1):
            for token in range(tokens):
                if layer % full_every == 0 or token >= tokens - window:
                    total += one_token
    return total


def chats_that_fit(free_gib: int, bytes_per_token: int, tokens: int) -> int:
    """Whole chats: put one after the other into the memory until the next one does not fit."""
    free, chats = free_gib * 1024 * 1024 * 1024, 0
    one_chat = sum(bytes_per_token for _token in range(tokens))
    while free >= one_chat:
        free -= one_chat
        chats += 1
    return chats


def batch_bytes(config: Config, tokens: int, batch: int) -> int:
    """Bytes in bf16 of `batch` chats of `tokens` tokens, added token by token."""
    one_token = config_bytes_per_token(config)
    return sum(one_token for _chat in range(batch) for _token in range(tokens))


def design_bytes(design: dict[str, int], tokens: int) -> int:
    """Bytes of one sequence in a design of exercise 8, layer by layer."""
    numbers = numbers_per_token(1, design["kv_heads"], design["head_dim"])
    bits = 0
    for layer in range(1, design["layers"] + 1):
        held = len(range(tokens) if layer % design["full_every"] == 0 else range(tokens)[-design["window"] :])
        bits += held * numbers * design["bits"]
    return len(range(0, bits, 8))
