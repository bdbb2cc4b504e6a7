"""kvlib.model: what each kind of layer keeps, exactly, for one GPU and for several."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvlib as kv
from kvlib.model import Chunked, Compressed, Full, Latent, Layer, Model, NoCache, Recurrent, Shared, Sliding

LAYERS = st.one_of(
    st.builds(Full, st.integers(1, 64), st.integers(1, 512), st.integers(1, 512)),
    st.builds(Sliding, st.integers(1, 64), st.integers(1, 512), st.integers(1, 512), st.integers(1, 5_000)),
    st.builds(Chunked, st.integers(1, 64), st.integers(1, 512), st.integers(1, 512), st.integers(1, 5_000)),
    st.builds(Latent, st.integers(1, 512), st.integers(1, 128), st.integers(0, 128)),
    st.builds(Compressed, st.just(512), st.integers(1, 500), st.sampled_from([0, 4, 128]), st.sampled_from([0, 128])),
    st.builds(Recurrent, st.integers(0, 10**6), st.integers(0, 10**5), st.just(4)),
    st.just(Shared()),
    st.just(NoCache()),
)
MODELS = st.lists(LAYERS, min_size=1, max_size=6).map(lambda layers: Model("drawn", tuple(layers)))


def slow_elements(layer: Layer, tokens: int) -> int:
    """Numbers in the cache, found by looking at every token: is it still there, and what does it leave?"""
    count = 0
    for token in range(tokens):
        age = tokens - token
        if isinstance(layer, Sliding | Chunked):
            limit = layer.window if isinstance(layer, Sliding) else layer.chunk
            count += (layer.key_dim + layer.value_dim) * layer.kv_heads if age <= limit else 0
        elif isinstance(layer, Full):
            count += layer.kv_heads * layer.key_dim + layer.kv_heads * layer.value_dim
        elif isinstance(layer, Latent):
            count += layer.rank + layer.rope_dim + layer.indexer_dim
        elif isinstance(layer, Compressed):
            count += layer.dim if age <= layer.window else 0
            count += layer.dim + layer.indexer_dim if layer.ratio and (token + 1) % layer.ratio == 0 else 0
    return count


@given(MODELS, st.integers(0, 700))
def test_cache_is_what_a_slow_count_finds(model, tokens):
    state = sum(4 * layer.state + 2 * layer.conv for layer in model.layers if isinstance(layer, Recurrent))
    assert model.state_bytes == state
    assert model.cache_bytes(tokens) == 2 * sum(slow_elements(layer, tokens) for layer in model.layers) + state


@given(MODELS, st.integers(10_000, 10**6), st.sampled_from(["bf16", "fp8", "q8_0"]))
def test_growth_is_the_slope_at_long_context(model, tokens, dtype):
    """Per 128 tokens, since a compressed layer adds a vector per 4 or 128; scales may round up a byte per layer."""
    slope = model.cache_bytes(tokens + 128, dtype) - model.cache_bytes(tokens, dtype)
    assert abs(slope - 128 * model.growth(dtype)) <= 128 * len(model.layers)
    if dtype != "q8_0":
        assert slope == 128 * model.growth(dtype)


@given(MODELS, st.integers(0, 5_000), st.sampled_from([2, 4, 8, 64]))
def test_more_gpus_never_hold_more_each_and_together_never_less(model, tokens, tp):
    alone, each = model.cache_bytes(tokens), model.cache_bytes(tokens, tp=tp)
    assert each <= alone <= tp * each


@given(MODELS, st.lists(st.integers(0, 10**6), max_size=5))
def test_arrays_are_the_scalars_one_by_one(model, lengths):
    np = pytest.importorskip("numpy")
    assert model.cache_bytes(np.array(lengths, dtype=int)).tolist() == [model.cache_bytes(n) for n in lengths]


def test_tensor_parallelism_divides_heads_but_never_a_head_and_never_a_latent():
    gqa, mla = Model("gqa", (Full(8, 128, 128),)), Model("mla", (Latent(512, 64),))
    assert [gqa.cache_bytes(1, tp=tp) for tp in (1, 2, 8, 16)] == [4096, 2048, 512, 512]
    assert [mla.cache_bytes(1, tp=tp) for tp in (1, 8)] == [1152, 1152]
    assert Model("m", (Recurrent(1024, 64, 4),)).cache_bytes(9, tp=2) == 2 * 1024 + 64


def test_a_very_long_context_is_an_exact_int():
    np = pytest.importorskip("numpy")
    model = kv.model("llama-3.1-8b")
    assert model.cache_bytes(10**18) == 131_072 * 10**18
    assert model.cache_bytes(np.array([10**18]))[0] == 131_072 * 10**18  # more than an int64 holds


@pytest.mark.parametrize("bad", [-1, 0.5, "8192", None, float("nan"), True])
def test_bad_tokens_are_named(bad):
    with pytest.raises(ValueError, match="tokens must be a whole number"):
        kv.model("gpt2").cache_bytes(bad)


@pytest.mark.parametrize("bad", [0, -2, 1.5, "2", None])
def test_bad_tp_is_named(bad):
    with pytest.raises(ValueError, match="tp must be a whole number, 1 or more"):
        kv.model("gpt2").cache_bytes(1, tp=bad)
    with pytest.raises(ValueError, match="tp must be a whole number, 1 or more"):
        kv.model("gpt2").weight_bytes(tp=bad)


def test_experts_that_are_not_chosen_are_not_active():
    model = Model("moe", (Full(1, 1, 1),), (("attention", 10), ("experts", 80)), experts=8, experts_per_token=2)
    assert (model.parameters, model.active_parameters) == (90, 30)
    assert model.weight_bytes("int4") == 45 and model.weight_bytes("bf16", tp=4) == 45


def test_repr_is_one_checkable_sentence():
    assert repr(kv.model("llama-3.1-8b")) == (
        "llama-3.1-8b: 8,030,261,248 parameters, 32 full layers, 131,072 B of bf16 cache per token"
    )


def test_import_is_light_and_the_function_model_is_not_hidden_by_the_module():
    code = (
        "import sys, kvlib as kv, kvlib.model; m = kv.model('llama-3.1-8b'); m.cache_bytes(9); "
        "print(sorted({'numpy', 'matplotlib', 'ipywidgets'} & set(sys.modules)), callable(kv.model))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] True"
    with pytest.raises(AttributeError, match="kvlib has no 'modle'"):
        _ = kv.modle
