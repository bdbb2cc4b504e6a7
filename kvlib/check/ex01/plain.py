"""Exercises 2, 3 and 7: a key and a value per layer, KV head and token. Shapes are those of the published configs."""

from __future__ import annotations

from typing import Any

from kvlib.check.base import Case, Question, Slip
from kvlib.check.ex01 import counted

# ---------------------------------------------------------------- exercise 2: bytes per token


def _shape(label: str, layers: int, query_heads: int, kv_heads: int, head_dim: int, bits: int) -> Case:
    """One model of exercise 2."""
    shape = {"layers": layers, "query_heads": query_heads, "kv_heads": kv_heads, "head_dim": head_dim, "bits": bits}
    return Case(label, shape)


BYTES_PER_TOKEN = Question(
    "bytes_per_token",
    "bytes",
    cases=(
        _shape("Llama 3.1 8B, bf16", 32, 32, 8, 128, 16),
        _shape("Llama 2 13B, bf16", 40, 40, 40, 128, 16),
        _shape("Llama 3.1 70B, fp8", 80, 64, 8, 128, 8),
        _shape("Falcon 7B, bf16", 32, 71, 1, 64, 16),
        _shape("Llama 3.2 1B, int4", 16, 32, 8, 64, 4),
    ),
    truth=counted.bytes_per_token,
    slips=(
        Slip(
            "query heads for KV heads",
            lambda layers, q, kv, d, bits: 2 * layers * q * d * bits / 8,
            "you used the query heads ({query_heads}); the cache holds the KV heads ({kv_heads})",
        ),
        Slip(
            "K without V",
            lambda layers, q, kv, d, bits: layers * kv * d * bits / 8,
            "you counted keys or values, and the cache holds both",
        ),
        Slip(
            "group size for group count",
            lambda layers, q, kv, d, bits: 2 * layers * (q // kv) * d * bits / 8,
            "you used the number of query heads in a group; wanted is the number of groups, {kv_heads}",
        ),
        Slip(
            "one layer only",
            lambda layers, q, kv, d, bits: 2 * kv * d * bits / 8,
            "you stopped after one layer; each of the {layers} layers has a cache of its own",
        ),
        Slip(
            "bits for bytes",
            lambda layers, q, kv, d, bits: 2 * layers * kv * d * bits,
            "these are bits; a byte has 8 of them",
        ),
        Slip(
            "numbers for bytes",
            lambda layers, q, kv, d, bits: 2 * layers * kv * d,
            "these are numbers; each of them takes {bits} bits",
        ),
        Slip(
            "always two bytes",
            lambda layers, q, kv, d, bits: 2 * layers * kv * d * 2,
            "you gave every number two bytes; here it has {bits} bits",
        ),
        Slip(
            "query heads for KV heads, and K without V",
            lambda layers, q, kv, d, bits: layers * q * d * bits / 8,
            "you used the query heads ({query_heads}) for the KV heads ({kv_heads}), and keys or values only",
        ),
    ),
)

# ---------------------------------------------------------------- exercises 3 and 7: from a config.json


def published(layers: int, hidden: int, heads: int, **more: Any) -> dict[str, Any]:
    """The fields of a config.json that matter for the cache: those that every model has, and `more`."""
    return {"num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": heads, **more}


def _parts(config: dict[str, Any]) -> tuple[int, int, int, int]:
    """Layers, query heads, KV heads and head_dim; the slips start from the right ones and leave one thing out."""
    layers, heads = int(config["num_hidden_layers"]), int(config["num_attention_heads"])
    kv_heads, head_dim = config.get("num_key_value_heads"), config.get("head_dim")
    return layers, heads, kv_heads or heads, head_dim or config["hidden_size"] // heads


def slipped(config: dict[str, Any], without: str) -> int:
    """Bytes per token in bf16 with one mistake."""
    layers, heads, kv_heads, head_dim = _parts(config)
    sides, width = 2, 2  # key and value; bytes of a bf16 number
    match without:
        case "KV heads":
            kv_heads = heads
        case "group count":
            kv_heads = heads // kv_heads
        case "default KV heads":
            kv_heads = config.get("num_key_value_heads") or 1
        case "head_dim":
            head_dim = config["hidden_size"] // heads
        case "value":
            sides = 1
        case "layers":
            layers = 1
        case "bytes":
            width = 16
    return sides * layers * kv_heads * head_dim * width


LLAMA_70B = published(80, 8192, 64, num_key_value_heads=8)
LLAMA_7B = published(32, 4096, 32)  # the first LLaMA: its config has no num_key_value_heads
QWEN3_30B = published(48, 2048, 32, num_key_value_heads=4, head_dim=128)

CONFIG_BYTES_PER_TOKEN = Question(
    "config_bytes_per_token",
    "bytes",
    cases=(
        Case("Llama 3.1 8B", {"config": published(32, 4096, 32, num_key_value_heads=8)}),
        Case("LLaMA 7B, no num_key_value_heads", {"config": LLAMA_7B}),
        Case("Qwen3 30B-A3B, head_dim given", {"config": QWEN3_30B}),
        Case(
            "ERNIE 4.5 0.3B, head_dim given", {"config": published(18, 1024, 16, num_key_value_heads=2, head_dim=128)}
        ),
        Case("made up, both fields null", {"config": published(4, 96, 6, num_key_value_heads=None, head_dim=None)}),
    ),
    truth=counted.config_bytes_per_token,
    slips=(
        Slip(
            "query heads for KV heads",
            lambda config: slipped(config, without="KV heads"),
            "you used the {config[num_attention_heads]} query heads, not num_key_value_heads",
        ),
        Slip(
            "hidden size / heads for an explicit head_dim",
            lambda config: slipped(config, without="head_dim"),
            "you divided hidden_size by the heads, but this config gives its own head_dim",
        ),
        Slip(
            "one KV head where the field is missing",
            lambda config: slipped(config, without="default KV heads"),
            "without num_key_value_heads every query head has keys and values of its own",
        ),
        Slip(
            "K without V",
            lambda config: slipped(config, without="value"),
            "you counted keys or values, and the cache holds both",
        ),
        Slip(
            "group size for group count",
            lambda config: slipped(config, without="group count"),
            "you used the number of query heads in a group; wanted is the number of groups",
        ),
        Slip(
            "one layer only",
            lambda config: slipped(config, without="layers"),
            "you stopped after one of {config[num_hidden_layers]} layers",
        ),
        Slip(
            "bits for bytes",
            lambda config: slipped(config, without="bytes"),
            "bf16 has 16 bits, and that is 2 bytes",
        ),
    ),
)


def _as_found(config: dict[str, Any], tokens: int, batch: int, sides: int = 1) -> int:
    """The calculator of exercise 7 as it was found, or with values as well as keys."""
    return sides * 2 * int(config["hidden_size"] * config["num_hidden_layers"]) * tokens * batch


REPAIRED = Question(
    "repaired",
    "bytes",
    cases=(
        Case("LLaMA 7B, 1 chat of 2,048 tokens", {"config": LLAMA_7B, "tokens": 2_048, "batch": 1}),
        Case("Llama 3.1 70B, 4 chats of 1,000 tokens", {"config": LLAMA_70B, "tokens": 1_000, "batch": 4}),
        Case("Qwen3 30B-A3B, 3 chats of 5,000 tokens", {"config": QWEN3_30B, "tokens": 5_000, "batch": 3}),
    ),
    truth=counted.batch_bytes,
    slips=(
        Slip("not repaired", _as_found, "this is still the published formula"),
        Slip(
            "query heads for KV heads",
            lambda config, tokens, batch: slipped(config, without="KV heads") * tokens * batch,
            "keys and values are both there now, but hidden_size or the query heads still stand for the KV heads",
        ),
        Slip(
            "query heads for KV heads",
            lambda config, tokens, batch: _as_found(config, tokens, batch, sides=2),
            "keys and values are both there now, but hidden_size or the query heads still stand for the KV heads",
        ),
        Slip(
            "K without V",
            lambda config, tokens, batch: slipped(config, without="value") * tokens * batch,
            "the heads are right now; the 2 in the formula is the bytes of a number, so values are still missing",
        ),
        Slip(
            "hidden size / heads for an explicit head_dim",
            lambda config, tokens, batch: slipped(config, without="head_dim") * tokens * batch,
            "keys, values and KV heads are right; this config gives its own head_dim",
        ),
        Slip(
            "batch forgotten",
            lambda config, tokens, batch: slipped(config, without="nothing") * tokens,
            "that is one chat, and here are {batch}",
        ),
        Slip(
            "one token only",
            lambda config, tokens, batch: slipped(config, without="nothing") * batch,
            "that is one token of each chat, and a chat has {tokens:,}",
        ),
    ),
)
