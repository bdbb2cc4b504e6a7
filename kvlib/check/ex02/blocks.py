"""Exercises 3, 6 and 7: bytes to blocks to tokens. The cases are figures of public start-up logs."""

from __future__ import annotations

import math

from kvlib.check.base import Case, Question, Slip
from kvlib.check.ex02 import counted
from kvlib.units import MiB

BLOCK = 16

# ---------------------------------------------------------------- exercise 3: whole blocks


def _pool(label: str, *values: int) -> Case:
    names = ("room_mib", "layers", "kv_heads", "head_dim", "bits")
    return Case(label, dict(zip(names, values, strict=True)))


def _one(layers: int, heads: int, dim: int, bits: float) -> float:
    """Bytes of one token."""
    return 2 * layers * heads * dim * bits / 8


POOL_TOKENS = Question(
    "pool_tokens",
    "tokens",
    cases=(
        _pool("Llama 3.1 8B, bf16", 3_901, 32, 8, 128, 16),
        _pool("Qwen3 30B-A3B, fp8", 4_137, 48, 4, 128, 8),
        _pool("Phi-4, bf16", 46_295, 40, 10, 128, 16),
        _pool("Qwen2.5 0.5B, bf16", 572, 24, 2, 64, 16),
    ),
    truth=counted.pool_tokens,
    slips=(
        Slip(
            "blocks not rounded",
            lambda room, n, h, d, bits: room * MiB // _one(n, h, d, bits),
            "you counted single tokens; memory is given out in whole blocks of 16",
        ),
        Slip(
            "blocks not rounded",
            lambda room, n, h, d, bits: room * MiB / _one(n, h, d, bits),
            "you divided without rounding; memory is given out in whole blocks of 16",
        ),
        Slip(
            "blocks rounded up",
            lambda room, n, h, d, bits: BLOCK * math.ceil(room * MiB / (BLOCK * _one(n, h, d, bits))),
            "you rounded the blocks up, and the last one does not fit",
        ),
        Slip(
            "blocks rounded to the nearest",
            lambda room, n, h, d, bits: BLOCK * round(room * MiB / (BLOCK * _one(n, h, d, bits))),
            "you rounded the blocks to the nearest whole number; a block fits or it does not",
        ),
        Slip(
            "blocks for tokens",
            lambda room, n, h, d, bits: room * MiB // (BLOCK * _one(n, h, d, bits)),
            "that is the number of blocks; each holds 16 tokens",
        ),
        Slip(
            "a page of one layer",
            lambda room, n, h, d, bits: BLOCK * (room * MiB // (BLOCK * _one(1, h, d, bits))),
            "your block holds 16 tokens of one layer; it needs room in all {layers}",
        ),
        Slip(
            "K without V",
            lambda room, n, h, d, bits: BLOCK * (2 * room * MiB // (BLOCK * _one(n, h, d, bits))),
            "you counted keys or values, and a block holds both",
        ),
        Slip(
            "always two bytes",
            lambda room, n, h, d, bits: BLOCK * (room * MiB // (BLOCK * _one(n, h, d, 16))),
            "you gave every number two bytes; here it has {bits} bits",
        ),
        Slip(
            "bits for bytes",
            lambda room, n, h, d, bits: BLOCK * (room * MiB // (BLOCK * 8 * _one(n, h, d, bits))),
            "you took bits for bytes",
        ),
        Slip(
            "MB for MiB",
            lambda room, n, h, d, bits: BLOCK * (room * 10**6 // (BLOCK * _one(n, h, d, bits))),
            "you took MB; {room_mib:,} MiB are 4.9 % more",
        ),
    ),
)

# ---------------------------------------------------------------- exercise 6: a block that holds a state


def _state(label: str, *values: int) -> Case:
    return Case(label, dict(zip(("state_bytes", "kv_heads", "head_dim", "bits"), values, strict=True)))


HYBRID_BLOCK = Question(
    "hybrid_block",
    "tokens",
    cases=(
        _state("Qwen3.5 27B, bf16", 3_207_168, 4, 256, 16),
        _state("Qwen3.5 27B, fp8", 3_207_168, 4, 256, 8),
        _state("Qwen3.5 9B, bf16", 2_146_304, 4, 256, 16),
        _state("Qwen3.5 122B-A10B, fp8", 4_268_032, 2, 256, 8),
        _state("Qwen3.6 35B-A3B, fp8", 2_146_304, 2, 256, 8),
    ),
    truth=counted.hybrid_block,
    slips=(
        Slip(
            "rounded down",
            lambda state, h, d, bits: BLOCK * (state // (BLOCK * _one(1, h, d, bits))),
            "you rounded down, and then the state is larger than the page",
        ),
        Slip(
            "rounded to the nearest",
            lambda state, h, d, bits: BLOCK * round(state / (BLOCK * _one(1, h, d, bits))),
            "you rounded to the nearest multiple of 16; the page has to hold the whole state",
        ),
        Slip(
            "not a multiple of 16",
            lambda state, h, d, bits: math.ceil(state / _one(1, h, d, bits)),
            "so many tokens are enough, but a block is a multiple of 16",
        ),
        Slip(
            "multiples for tokens",
            lambda state, h, d, bits: math.ceil(state / (BLOCK * _one(1, h, d, bits))),
            "that is how many times 16 tokens; the question is tokens",
        ),
        Slip(
            "K without V",
            lambda state, h, d, bits: BLOCK * math.ceil(state / (BLOCK * _one(1, h, d, bits) / 2)),
            "you counted keys or values, and a page holds both",
        ),
        Slip(
            "always two bytes",
            lambda state, h, d, bits: BLOCK * math.ceil(state / (BLOCK * _one(1, h, d, 16))),
            "you gave every number two bytes; here it has {bits} bits",
        ),
        Slip(
            "one head only",
            lambda state, h, d, bits: BLOCK * math.ceil(state / (BLOCK * _one(1, 1, d, bits))),
            "a page holds all {kv_heads} KV heads",
        ),
        Slip(
            "the smallest block",
            lambda state, h, d, bits: BLOCK,
            "16 tokens make a page that is far smaller than the state",
        ),
    ),
)

# ---------------------------------------------------------------- exercise 7: which tokens?


def _start(label: str, *values: int) -> Case:
    names = ("blocks", "groups", "block", "per_request", "max_model_len", "minor")
    return Case(label, dict(zip(names, values, strict=True)))


def _old(blocks: int, groups: int, block: int) -> int:
    return blocks // groups * block


def _new(blocks: int, per: int, length: int) -> int:
    return blocks * length // per


PRINTED_TOKENS = Question(
    "printed_tokens",
    "tokens",
    cases=(
        _start("Qwen3.6 35B-A3B, vLLM 0.20", 4_123, 4, 2_096, 38, 65_536, 20),
        _start("Qwen3.6 35B-A3B, vLLM 0.22", 3_163, 4, 1_072, 202, 200_000, 22),
        _start("Qwen3.5 27B, vLLM 0.21 or later", 408, 4, 784, 341, 262_144, 21),
        _start("Qwen3.5 9B, vLLM before 0.21", 406, 4, 528, 11, 4_096, 19),
        _start("27B hybrid, vLLM before 0.21", 117, 4, 1_600, 111, 153_500, 20),
    ),
    truth=counted.printed_tokens,
    slips=(
        Slip(
            "old definition throughout",
            lambda n, g, b, per, length, minor: _old(n, g, b),
            "that is what vLLM printed up to 0.20; from 0.21 it is requests x max_model_len",
        ),
        Slip(
            "new definition throughout",
            lambda n, g, b, per, length, minor: _new(n, per, length),
            "that is what vLLM prints from 0.21; up to 0.20 it shared the blocks among the groups",
        ),
        Slip(
            "definitions swapped",
            lambda n, g, b, per, length, minor: _new(n, per, length) if minor <= 20 else _old(n, g, b),
            "you swapped the definitions: 0.21 is where the newer one begins",
        ),
        Slip(
            "groups forgotten",
            lambda n, g, b, per, length, minor: n * b if minor <= 20 else _new(n, per, length),
            "{groups} groups share the {blocks:,} blocks",
        ),
        Slip(
            "blocks x block",
            lambda n, g, b, per, length, minor: n * b,
            "blocks x tokens holds for a single group; here {groups} of them share the pool",
        ),
        Slip(
            "a part of a round",
            lambda n, g, b, per, length, minor: n * b / g if minor <= 20 else _new(n, per, length),
            "every group gets the same whole number of blocks; what is left over does not count",
        ),
        Slip(
            "concurrency rounded first",
            lambda n, g, b, per, length, minor: int(round(n / per, 2) * length) if minor > 20 else _old(n, g, b),
            "you rounded the concurrency to two decimals, as the log prints it, before you multiplied",
        ),
        Slip(
            "whole requests only",
            lambda n, g, b, per, length, minor: n // per * length if minor > 20 else _old(n, g, b),
            "you counted whole requests; the engine multiplies the unrounded number",
        ),
        Slip(
            "a part of a token",
            lambda n, g, b, per, length, minor: n * length / per if minor > 20 else _old(n, g, b),
            "right but for the part of a token: the engine cuts it off",
        ),
    ),
)
