"""The public start-up figures of tests/data/engine_logs.json, as models and arguments of `kvlib.engine.pool`."""

import json
from functools import cache
from pathlib import Path

from kvlib.model import Chunked, Full, Latent, Model, Recurrent, Shared, Sliding

DATA = json.loads((Path(__file__).parent / "data" / "engine_logs.json").read_text(encoding="utf-8"))
SHAPES, ROWS = DATA["shapes"], DATA["rows"]
GIB = 2**30


@cache
def shape(name, attention_only=False):
    """The model that a shape describes, built by hand: layer kinds and sizes only."""
    s = SHAPES[name]
    layers = [Full(s["kv"], s["d"], s["d"])] * s["full"] if "full" in s else []
    layers += [Latent(s["latent"], s["rope"], s.get("indexer", 0))] * s["mla"] if "mla" in s else []
    layers += [Sliding(s["swa_kv"], s["swa_d"], s["swa_d"], s["window"])] * s["swa"] if "swa" in s else []
    layers += [Chunked(s["kv"], s["d"], s["d"], s["chunk"])] * s["chunk_layers"] if "chunk" in s else []
    if not attention_only:
        layers += _states(s)
    return Model(name, (*layers, Shared()))


def _states(s):
    if "gdn" in s:
        channels = 2 * s["k_heads"] * s["dk"] + s["v_heads"] * s["dv"]
        return [Recurrent(s["v_heads"] * s["dk"] * s["dv"], channels * s["conv"], s["conv"])] * s["gdn"]
    if "kda" in s:
        channels = 3 * s["kda_heads"] * s["kda_d"]
        return [Recurrent(s["kda_heads"] * s["kda_d"] ** 2, channels * s["conv"], s["conv"])] * s["kda"]
    if "mamba2" in s:
        inner = s["m_heads"] * s["m_head_dim"]
        channels = inner + 2 * s["m_groups"] * s["m_state"]
        return [Recurrent(inner * s["m_state"], channels * s["conv"], s["conv"])] * s["mamba2"]
    return []


def model_of(row):
    """The model (or target and draft) of a row. SGLang and llama.cpp keep attention in a pool of its own."""
    derive = row["derive"]
    if derive["kv"] == "mha256":  # before MLA was supported its 16 heads were stored, padded to 256
        return Model("deepseek-v2-lite as MHA", (Full(SHAPES[derive["model"]]["heads"], 256, 256),) * 27)
    alone = derive.get("attention_only", False) or row["engine"] == "sglang"
    names = derive["model"] if isinstance(derive["model"], list) else [derive["model"]]
    models = tuple(shape(name, alone) for name in names)
    return models if len(models) > 1 else models[0]


def settings_of(row, **changes):
    """The arguments of `pool` that the row's `derive` names."""
    derive = {**row["derive"], **changes}
    return {
        "max_model_len": derive.get("max_model_len") or row.get("max_model_len") or 32_768,
        "kv_dtype": "bf16" if derive["kv"] == "mha256" else derive["kv"],
        "tp": derive.get("tp", 1),
        "block": derive.get("block"),
        "in_flight": derive.get("in_flight", 8_192),
        "spec_tokens": derive.get("spec", 0),
        "state_mode": derive.get("mode", "align"),
        "state_dtype": derive.get("ssm", "fp32"),
        "definition": derive.get("definition", "old"),
    }


def by_class(*names):
    """The rows of some classes."""
    return [row for row in ROWS if row["class"] in names]


def ids(row):
    return row["id"] if isinstance(row, dict) else None
