"""Exercises 4 and 5: formulas as published calculators have them, to be repaired."""

from __future__ import annotations

from typing import Any

from kvlib.check.base import Case, Question, Slip
from kvlib.check.ex02 import counted
from kvlib.units import GB, GiB, MiB

# ---------------------------------------------------------------- exercise 4: a whole server

_FIELDS = (
    "label_gb",
    "visible_mib",
    "percent",
    "weights_mib",
    "other_mib",
    "weight_bits",
    "kv_bits",
    "numbers_per_token",
)


def _server(label: str, *values: int) -> Case:
    return Case(label, {"server": dict(zip(_FIELDS, values, strict=True))})


def tokens_of(server: dict[str, Any], card: int, bits: str, block: int = 16) -> int:
    """Tokens on a card of `card` bytes, the cache stored as the field `bits` says, in whole blocks."""
    room = card * server["percent"] / 100 - (server["weights_mib"] + server["other_mib"]) * MiB
    return int(room // (block * server["numbers_per_token"] * server[bits] / 8)) * block


def _label(server: dict[str, Any]) -> int:
    return int(server["label_gb"]) * GiB


def _visible(server: dict[str, Any]) -> int:
    return int(server["visible_mib"]) * MiB


REPAIRED_SERVER = Question(
    "repaired_server",
    "tokens",
    cases=(
        _server("Llama 3.1 8B, H100, fp8 cache", 80, 81_000, 90, 15_316, 4_900, 16, 8, 65_536),
        _server("Qwen3 32B in fp8, H200, bf16 cache", 141, 143_100, 90, 31_300, 3_100, 8, 16, 131_072),
        _server("Llama 3.1 70B in fp8, B300, fp8 cache", 288, 274_400, 90, 67_300, 5_100, 8, 8, 163_840),
        _server("Qwen2.5 7B, RTX 5090, bf16 cache", 32, 32_100, 90, 14_530, 1_300, 16, 16, 28_672),
    ),
    truth=counted.repaired_server,
    slips=(
        Slip("not repaired", lambda s: tokens_of(s, _label(s), "weight_bits"), "this is still the published formula"),
        Slip(
            "label for visible bytes",
            lambda s: tokens_of(s, _label(s), "kv_bits"),
            "the cache has its own format now; the card is still {server[label_gb]} GiB, its label",
        ),
        Slip(
            "label for visible bytes",
            lambda s: tokens_of(s, s["label_gb"] * GB, "kv_bits"),
            "the cache has its own format now; the card is still its label, {server[label_gb]} GB",
        ),
        Slip(
            "KV dtype follows weights",
            lambda s: tokens_of(s, _visible(s), "weight_bits"),
            "the card is right now; the cache is still stored as the weights are, in {server[weight_bits]} bits",
        ),
        Slip(
            "MB for MiB",
            lambda s: tokens_of(s, s["visible_mib"] * 10**6, "kv_bits"),
            "both bugs are gone, but the {server[visible_mib]:,} MiB of the card became MB",
        ),
        Slip(
            "blocks not rounded",
            lambda s: tokens_of(s, _visible(s), "kv_bits", block=1),
            "both bugs are gone, but memory is given out in whole blocks of 16 tokens",
        ),
        Slip(
            "utilisation forgotten",
            lambda s: tokens_of(s | {"percent": 100}, _visible(s), "kv_bits"),
            "both bugs are gone, and with them the {server[percent]} %",
        ),
        Slip(
            "weights forgotten",
            lambda s: tokens_of(s | {"weights_mib": 0}, _visible(s), "kv_bits"),
            "both bugs are gone, and with them the weights",
        ),
    ),
)

# ---------------------------------------------------------------- exercise 5: an entry of DeepSeek-V3.2


def _latent(label: str, *values: int) -> Case:
    return Case(label, dict(zip(("layers", "rank", "rope_dim", "indexer_dim", "tp"), values, strict=True)))


def _entry(rank: int, rope: int, indexer: int, rope_bytes: int = 2) -> float:
    """Bytes of one layer: latent and indexer in fp8 with a scale of 4 bytes for 128 numbers, and the rotary key."""
    return rank + rank / 32 + rope_bytes * rope + indexer + indexer / 32


REPAIRED_ENTRY = Question(
    "repaired_entry",
    "bytes",
    cases=(
        _latent("DeepSeek-V3.2 on one GPU", 61, 512, 64, 128, 1),
        _latent("DeepSeek-V3.2 on eight", 61, 512, 64, 128, 8),
        _latent("made up, on two", 4, 256, 32, 128, 2),
    ),
    truth=counted.repaired_entry,
    slips=(
        Slip(
            "latent without its scales",
            lambda n, r, p, i, tp: n * (r + 2 * p + i + 4),
            "this is still the published sum: the {rank} numbers of the latent have scales, too, one for each 128",
        ),
        Slip(
            "latent without its scales, and divided by tp",
            lambda n, r, p, i, tp: n * (r + 2 * p + i + 4) / tp,
            "the {rank} numbers of the latent have scales, too, and all {tp} GPUs hold the whole latent",
        ),
        Slip(
            "MLA divided by tp",
            lambda n, r, p, i, tp: n * _entry(r, p, i) / tp,
            "the bytes are right, but all heads share one latent, so each of the {tp} GPUs holds all of it",
        ),
        Slip(
            "MLA doubled for K and V",
            lambda n, r, p, i, tp: 2 * n * _entry(r, p, i),
            "you counted a key and a value; one latent serves as both",
        ),
        Slip(
            "rotary key in fp8",
            lambda n, r, p, i, tp: n * _entry(r, p, i, rope_bytes=1),
            "the rotary key stays in bf16: 2 bytes for each of its {rope_dim} numbers",
        ),
        Slip(
            "indexer without its scale",
            lambda n, r, p, i, tp: n * (_entry(r, p, i) - i / 32),
            "the indexer key of {indexer_dim} numbers has a scale, too",
        ),
        Slip(
            "indexer forgotten",
            lambda n, r, p, i, tp: n * _entry(r, p, 0),
            "the indexer key is missing: {indexer_dim} numbers in fp8 and their scale",
        ),
        Slip(
            "no scales at all",
            lambda n, r, p, i, tp: n * (r + 2 * p + i),
            "scales take room: 4 bytes for each 128 numbers in fp8",
        ),
        Slip(
            "a scale for the whole latent",
            lambda n, r, p, i, tp: n * (_entry(r, p, i) - r / 32 + 4),
            "the latent has a scale for each 128 of its {rank} numbers, not one in all",
        ),
        Slip("one layer only", lambda n, r, p, i, tp: _entry(r, p, i), "you stopped after one of {layers} layers"),
    ),
)
