"""Exercises 4, 5 and 6: MLA, sliding windows, and how many chats fit. Shapes are those of the published configs."""

from __future__ import annotations

import math
from typing import Any

from kvlib.check.base import Case, Question, Slip
from kvlib.check.ex01 import counted
from kvlib.check.ex01.plain import published, slipped

GiB, GB = 1024**3, 1000**3

# ---------------------------------------------------------------- exercise 4: MLA


def _mla(layers: int, hidden: int, heads: int, rank: int, rope: int, nope: int, value: int) -> dict[str, Any]:
    """One model of exercise 4."""
    dims = {"kv_lora_rank": rank, "qk_rope_head_dim": rope, "qk_nope_head_dim": nope, "v_head_dim": value}
    return {"config": published(layers, hidden, heads, num_key_value_heads=heads, **dims)}


def _in_all_layers(config: dict[str, Any], numbers: int) -> int:
    """Bytes in bf16 of `numbers` per layer."""
    return int(config["num_hidden_layers"]) * numbers * 2


LATENT_BYTES_PER_TOKEN = Question(
    "latent_bytes_per_token",
    "bytes",
    cases=(
        Case("DeepSeek-V3", _mla(61, 7168, 128, 512, 64, 128, 128)),
        Case("DeepSeek-V2-Lite", _mla(27, 2048, 16, 512, 64, 128, 128)),
        Case("Kimi K2", _mla(61, 7168, 64, 512, 64, 128, 128)),
        Case("made up, 3 layers", _mla(3, 60, 6, 24, 8, 16, 12)),
    ),
    truth=counted.latent_bytes_per_token,
    slips=(
        Slip(
            "MLA without its rope part",
            lambda config: _in_all_layers(config, config["kv_lora_rank"]),
            "the latent is there, the rotary key of {config[qk_rope_head_dim]} numbers is missing",
        ),
        Slip(
            "MLA doubled for K and V",
            lambda config: _in_all_layers(config, 2 * (config["kv_lora_rank"] + config["qk_rope_head_dim"])),
            "you doubled for keys and values, but one latent serves as both",
        ),
        Slip(
            "MLA doubled for K and V, without its rope part",
            lambda config: _in_all_layers(config, 2 * config["kv_lora_rank"]),
            "one latent serves as key and value, so nothing is doubled, and the rotary key is missing",
        ),
        Slip(
            "a latent for every head",
            lambda config: _in_all_layers(
                config, config["num_attention_heads"] * (config["kv_lora_rank"] + config["qk_rope_head_dim"])
            ),
            "you multiplied by {config[num_attention_heads]} heads, but all heads share one latent",
        ),
        Slip(
            "MLA counted as plain attention",
            lambda config: slipped(config, without="nothing"),
            "this is the formula for keys and values of every head; MLA does not keep those",
        ),
        Slip(
            "MLA unpacked",
            lambda config: _in_all_layers(
                config,
                config["num_attention_heads"]
                * (config["qk_nope_head_dim"] + config["qk_rope_head_dim"] + config["v_head_dim"]),
            ),
            "these are the unpacked keys and values of every head; the cache keeps the latent that they come from",
        ),
        Slip(
            "one head's key and value for the latent",
            lambda config: _in_all_layers(
                config, config["qk_nope_head_dim"] + config["qk_rope_head_dim"] + config["v_head_dim"]
            ),
            "these are the lengths of one head's key and value; the latent has kv_lora_rank numbers",
        ),
        Slip(
            "one layer only",
            lambda config: 2 * (config["kv_lora_rank"] + config["qk_rope_head_dim"]),
            "you stopped after one of {config[num_hidden_layers]} layers",
        ),
        Slip(
            "numbers for bytes",
            lambda config: config["num_hidden_layers"] * (config["kv_lora_rank"] + config["qk_rope_head_dim"]),
            "these are numbers; in bf16 each takes 2 bytes",
        ),
    ),
)

# ---------------------------------------------------------------- exercise 5: windows


def _hybrid(label: str, layers: int, every: int, window: int, kv: int, dim: int, tokens: int, batch: int) -> Case:
    """One model and its chats, for exercise 5."""
    shape = {"layers": layers, "full_every": every, "window": window, "kv_heads": kv, "head_dim": dim}
    return Case(label, {**shape, "tokens": tokens, "batch": batch})


def _held(full: float, sliding: float, window: int, tokens: int, one_token: int) -> float:
    """Bytes of `full` layers with all tokens and `sliding` layers with `window` of them."""
    return (full * tokens + sliding * window) * one_token


WINDOWED_BYTES = Question(
    "windowed_bytes",
    "bytes",
    cases=(
        _hybrid("Gemma 3 27B, 1 chat of 8,192 tokens", 62, 6, 1024, 16, 128, 8_192, 1),
        _hybrid("Gemma 3 12B, 3 chats of 2,000 tokens", 48, 6, 1024, 8, 256, 2_000, 3),
        _hybrid("Gemma 3 12B, 1 chat of 100 tokens", 48, 6, 1024, 8, 256, 100, 1),
        _hybrid("made up, 7 layers, 1 in 3 full, window 4, 2 chats of 10 tokens", 7, 3, 4, 2, 8, 10, 2),
    ),
    truth=counted.windowed_bytes,
    slips=(
        Slip(
            "window ignored",
            lambda n, every, w, kv, d, t, b: _held(n, 0, w, t, 4 * kv * d) * b,
            "you kept all {tokens:,} tokens in all {layers} layers; most layers keep the last {window:,}",
        ),
        Slip(
            "every layer slides",
            lambda n, every, w, kv, d, t, b: _held(0, n, min(w, t), t, 4 * kv * d) * b,
            "you gave every layer a window; 1 layer in {full_every} keeps all tokens",
        ),
        Slip(
            "full and sliding swapped",
            lambda n, every, w, kv, d, t, b: _held(n - n // every, n // every, min(w, t), t, 4 * kv * d) * b,
            "you swapped the kinds: 1 layer in {full_every} is full, the others slide",
        ),
        Slip(
            "batch forgotten",
            lambda n, every, w, kv, d, t, b: _held(n // every, n - n // every, min(w, t), t, 4 * kv * d),
            "that is one chat, and here are {batch}",
        ),
        Slip(
            "a short chat charged a whole window",
            lambda n, every, w, kv, d, t, b: _held(n // every, n - n // every, w, t, 4 * kv * d) * b,
            "a chat of {tokens:,} tokens does not fill a window of {window:,}",
        ),
        Slip(
            "full layers rounded up",
            lambda n, every, w, kv, d, t, b: _held(-(-n // every), n + -n // every, min(w, t), t, 4 * kv * d) * b,
            "every {full_every}th layer is full, so the last, incomplete group of the {layers} layers has no full one",
        ),
        Slip(
            "a fraction of a layer",
            lambda n, every, w, kv, d, t, b: _held(n / every, n - n / every, min(w, t), t, 4 * kv * d) * b,
            "{layers} layers divided by {full_every} is not whole, and a layer is full or it is not",
        ),
        Slip(
            "K without V",
            lambda n, every, w, kv, d, t, b: _held(n // every, n - n // every, min(w, t), t, 2 * kv * d) * b,
            "you counted keys or values, and the cache holds both",
        ),
        Slip(
            "one layer only",
            lambda n, every, w, kv, d, t, b: 4 * kv * d * t * b,
            "that is one full layer of {layers}",
        ),
        Slip(
            "window ignored, and batch forgotten",
            lambda n, every, w, kv, d, t, b: _held(n, 0, w, t, 4 * kv * d),
            "you kept all {tokens:,} tokens in all {layers} layers, and the number of chats is missing",
        ),
    ),
)

# ---------------------------------------------------------------- exercise 6: GB, GiB and whole chats

CHATS_THAT_FIT = Question(
    "chats_that_fit",
    "chats",
    cases=(
        Case("Llama 3.1 8B", {"free_gib": 16, "bytes_per_token": 131_072, "tokens": 8_192}),
        Case("DeepSeek-V3", {"free_gib": 40, "bytes_per_token": 70_272, "tokens": 32_768}),
        Case("Llama 2 13B", {"free_gib": 23, "bytes_per_token": 819_200, "tokens": 4_096}),
        Case("Llama 3.1 8B, one long chat", {"free_gib": 14, "bytes_per_token": 131_072, "tokens": 131_072}),
    ),
    truth=counted.chats_that_fit,
    slips=(
        Slip(
            "GB for GiB",
            lambda free, each, tokens: free * GB // (each * tokens),
            "you took {free_gib} GB; {free_gib} GiB are 7 % more bytes",
        ),
        Slip(
            "GB for GiB",
            lambda free, each, tokens: free * GB / (each * tokens),
            "you took {free_gib} GB, and {free_gib} GiB are 7 % more bytes; a part of a chat does not count either",
        ),
        Slip(
            "rounded up",
            lambda free, each, tokens: math.ceil(free * GiB / (each * tokens)),
            "you rounded up, and the last chat does not fit",
        ),
        Slip(
            "rounded to the nearest",
            lambda free, each, tokens: round(free * GiB / (each * tokens)),
            "you rounded to the nearest whole number, and the last chat does not fit",
        ),
        Slip(
            "a part of a chat",
            lambda free, each, tokens: free * GiB / (each * tokens),
            "a part of a chat cannot go on: whole chats only",
        ),
        Slip(
            "tokens for chats",
            lambda free, each, tokens: free * GiB // each,
            "that is how many tokens fit; a chat has {tokens:,} of them",
        ),
        Slip(
            "bits for bytes",
            lambda free, each, tokens: free * GiB * 8 // (each * tokens),
            "you counted the memory in bits and the chat in bytes",
        ),
    ),
)
