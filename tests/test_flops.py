"""FLOPs and bytes against a slow count, pair by pair, and against shapes written out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvlib.catalogue import model as known
from kvlib.flops import (
    COMPRESSED_TOPK,
    LATENT_TOPK,
    attended,
    attended_by_all,
    decode_attention_flops,
    decode_flops,
    prefill_attention_flops,
    prefill_flops,
)
from kvlib.model import Chunked, Compressed, Full, Latent, Model, NoCache, Recurrent, Shared, Sliding
from kvlib.traffic import cache_read, expert_coverage, formats, weights_read

HEADS = 4


def of(*layers, **more):
    return Model("m", layers=layers, query_heads=HEADS, hidden_size=32, **more)


def met_by(layer, i):
    """Entries that token `i` (counted from 0) meets, looked at one by one."""
    earlier = range(i + 1)
    if isinstance(layer, Sliding):
        return sum(i - j < layer.window for j in earlier)
    if isinstance(layer, Chunked):
        return sum(i // layer.chunk == j // layer.chunk for j in earlier)
    if isinstance(layer, Compressed):
        blocks = sum((j + 1) % layer.ratio == 0 for j in earlier) if layer.ratio else 0
        if layer.indexer_dim:
            blocks = min(blocks, COMPRESSED_TOPK)
        return sum(i - j < layer.window for j in earlier) + blocks
    if isinstance(layer, Latent) and layer.indexer_dim:
        return min(i + 1, LATENT_TOPK)
    return i + 1 if isinstance(layer, Full | Latent) else 0


WINDOWS = [
    Full(2, 8, 8),
    Sliding(2, 8, 8, window=5),
    Chunked(2, 8, 8, chunk=4),
    Latent(16, 4),
    Latent(16, 4, indexer_dim=8),
    Compressed(8, window=3, ratio=4, indexer_dim=4),
    Compressed(8, window=3, ratio=7),
    Compressed(8, window=3),
    Recurrent(64, 12),
    NoCache(),
]


@pytest.mark.parametrize("layer", WINDOWS, ids=lambda layer: f"{layer.kind}-{getattr(layer, 'ratio', '')}")
@given(tokens=st.integers(0, 60))
def test_what_a_token_meets_is_counted_one_by_one(layer, tokens):
    every = [met_by(layer, i) for i in range(tokens)]
    assert attended_by_all(layer, tokens) == sum(every)
    if tokens:
        assert attended(layer, tokens) == every[-1]


@pytest.mark.parametrize(
    ("layer", "limit"), [(Latent(16, 4, 8), LATENT_TOPK), (Compressed(8, 3, 4, 4), 4 * COMPRESSED_TOPK)]
)
def test_sparse_layers_stop_growing_at_the_entries_they_choose(layer, limit):
    for tokens in (limit - 1, limit, limit + 1, 3 * limit):
        assert attended_by_all(layer, tokens) == sum(met_by_formula(layer, i + 1) for i in range(tokens))


def met_by_formula(layer, n):
    """`met_by` for long contexts, where counting pairs takes too long."""
    if isinstance(layer, Latent):
        return min(n, LATENT_TOPK)
    return min(n, layer.window) + min(n // layer.ratio, COMPRESSED_TOPK)


def test_llama_8b_by_hand_from_the_shapes_of_its_matrices():
    n, hidden, layers, heads, dim, mlp, vocab = 1000, 4096, 32, 32, 128, 14336, 128256
    projections = 2 * hidden * hidden + 2 * hidden * 8 * dim
    norms = (2 * layers + 1) * hidden
    per_token = layers * (projections + 3 * hidden * mlp) + norms
    pairs = sum(i + 1 for i in range(n))
    per_pair = 2 * heads * dim + 2 * heads * dim  # a score and a weighted value, a multiply and an add each
    by_hand = 2 * per_token * n + 2 * hidden * vocab + layers * pairs * per_pair
    assert prefill_flops(known("llama-3.1-8b"), n) == by_hand
    assert decode_flops(known("llama-3.1-8b"), n) == 2 * per_token + 2 * hidden * vocab + layers * n * per_pair


def test_rule_of_thumb_counts_the_embedding_and_every_tokens_logits():
    model, n = known("llama-3.1-70b"), 4096
    embedding = 128256 * 8192
    exact = prefill_flops(model, n, logits=n) - prefill_attention_flops(model, n) + 2 * embedding * n
    assert exact == 2 * model.active_parameters * n


def test_tied_head_is_multiplied_and_untied_embedding_is_not():
    tied, untied = known("llama-3.2-1b"), known("llama-3.1-8b")
    assert decode_flops(tied, 1) == pytest.approx(2 * tied.parameters, rel=0.001)
    assert decode_flops(untied, 1) == pytest.approx(2 * (untied.parameters - 128256 * 4096), rel=0.001)


@pytest.mark.parametrize(
    ("name", "tokens"), [("llama-3.1-8b", 61_000), ("llama-3.1-70b", 108_000), ("llama-3.1-405b", 197_000)]
)
def test_attention_costs_as_much_as_the_weights_at_the_published_context(name, tokens):
    model = known(name)
    assert prefill_attention_flops(model, tokens) == pytest.approx(2 * model.parameters * tokens, rel=0.01)


def test_mla_decodes_in_the_latent_and_prefills_per_head():
    model, n = known("deepseek-v3"), 500
    pairs = n * (n + 1) // 2
    assert prefill_attention_flops(model, n) == 61 * pairs * 2 * 128 * (128 + 64 + 128)
    assert decode_attention_flops(model, n) == 61 * n * 2 * 128 * (512 + 64 + 512)


def test_indexer_scores_every_entry_that_attention_then_skips():
    dense, sparse = (decode_attention_flops(known(name), 100_000) for name in ("deepseek-v3", "deepseek-v3.2"))
    index = 61 * 100_000 * 2 * 64 * 128
    chosen = 61 * 2048 * 2 * 128 * (512 + 64 + 512)
    assert sparse == index + chosen < dense / 10


@given(
    tokens=st.integers(1, 300), cached=st.integers(0, 300), name=st.sampled_from(["llama-3.1-8b", "deepseek-v4-pro"])
)
@settings(deadline=None)
def test_a_prompt_in_two_parts_costs_the_same_attention(tokens, cached, name):
    model = known(name)
    first, rest = prefill_attention_flops(model, cached), prefill_attention_flops(model, tokens, cached)
    assert first + rest == prefill_attention_flops(model, cached + tokens)


def test_prefill_attention_is_the_sum_of_decode_steps_where_both_work_alike():
    model = known("gemma-3-27b")
    steps = sum(decode_attention_flops(model, n) for n in range(1, 40))
    assert prefill_attention_flops(model, 39) == steps


def test_recurrent_layers_cost_the_same_for_every_token():
    model = of(Recurrent(100, 12))
    assert decode_attention_flops(model, 10) == decode_attention_flops(model, 10**6) == 6 * 100 + 2 * 12
    assert prefill_attention_flops(model, 50) == 50 * (6 * 100 + 2 * 12)
    assert cache_read(model, 10**6) == 2 * model.cache_bytes(10**6)  # read, and written back


def test_shared_layer_works_like_the_mean_of_those_it_may_share():
    one, two = of(Full(2, 8, 8), Sliding(2, 8, 8, 4)), of(Full(2, 8, 8), Sliding(2, 8, 8, 4), Shared(), Shared())
    assert decode_attention_flops(two, 100) == 2 * decode_attention_flops(one, 100)
    assert cache_read(two, 100) == 2 * cache_read(one, 100) and two.cache_bytes(100) == one.cache_bytes(100)


@pytest.mark.parametrize("name", ["llama-3.1-8b", "gemma-3-27b", "deepseek-v3", "gpt-oss-120b"])
@pytest.mark.parametrize("tp", [1, 2, 8])
def test_dense_attention_reads_all_it_keeps(name, tp):
    assert cache_read(known(name), 5000, "fp8", tp) == known(name).cache_bytes(5000, "fp8", tp)


def test_chunked_layer_reads_from_the_start_of_the_chunk():
    model = of(Chunked(2, 8, 8, chunk=100))
    assert [cache_read(model, n) // 64 for n in (1, 100, 101, 250)] == [1, 100, 1, 50]


@given(experts=st.integers(1, 400), data=st.data())
def test_expert_coverage_of_one_and_two_tokens_is_what_combinatorics_says(experts, data):
    k = data.draw(st.integers(1, experts))
    assert expert_coverage(experts, k, 0) == 0
    assert expert_coverage(experts, k, 1) * experts == pytest.approx(k)
    assert expert_coverage(experts, k, 2) * experts == pytest.approx(2 * k - k * k / experts)


def test_expert_coverage_agrees_with_drawing_experts():
    rng = np.random.default_rng(0)
    drawn = [len({e for _ in range(20) for e in rng.choice(64, 6, replace=False)}) / 64 for _ in range(300)]
    assert np.mean(drawn) == pytest.approx(expert_coverage(64, 6, 20), abs=0.01)


def test_weights_are_read_once_but_for_the_embedding_and_idle_experts():
    dense, moe = known("llama-3.1-8b"), known("deepseek-v3")
    embedding = 128256 * 4096
    assert weights_read(dense, 1) == weights_read(dense, 500) == 2 * (dense.parameters - embedding)
    alone = weights_read(moe, 1, "fp8")
    assert alone == pytest.approx(moe.active_parameters - 926_679_040, rel=1e-6)
    assert weights_read(moe, 10**6, "fp8") == pytest.approx(moe.parameters - 926_679_040, rel=1e-6)
    assert alone < weights_read(moe, 8, "fp8") < weights_read(moe, 64, "fp8")


def test_parts_of_the_weights_may_have_formats_of_their_own():
    mixed = weights_read(known("llama-3.1-8b"), 1, {"other": "fp8", "head": "bf16"})
    assert mixed == weights_read(known("llama-3.1-8b"), 1, "fp8") + 128256 * 4096
    with pytest.raises(ValueError, match='weight_dtype must name a format for "other"'):
        formats({"head": "bf16"})
    with pytest.raises(ValueError, match=r"weight_dtype must be one of .*; got 'fp7'"):
        formats("fp7")


def test_arrays_give_what_scalars_give():
    model, lengths = known("deepseek-v4-pro"), np.array([[1, 200], [3000, 2_000_000]])
    for count in (prefill_flops, prefill_attention_flops, decode_flops, decode_attention_flops, cache_read):
        assert count(model, lengths).tolist() == [[count(model, int(n)) for n in row] for row in lengths]
    batches = np.array([1, 10, 1000])
    assert weights_read(model, batches).tolist() == [weights_read(model, int(b)) for b in batches]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: prefill_flops(m, -1), "tokens must be a whole number, 0 or more; got -1"),
        (lambda m: prefill_flops(m, 2.5), "tokens must be a whole number, 0 or more; got 2.5"),
        (lambda m: prefill_flops(m, 2, cached=-3), "cached must be a whole number, 0 or more; got -3"),
        (lambda m: decode_flops(m, math.nan), "context must be a whole number, 0 or more; got nan"),
        (lambda m: expert_coverage(8, 9, 1), "per_token must be at most the 8 experts; got 9"),
        (lambda m: expert_coverage(8, 2, -1), "tokens must be 0 or more; got -1"),
        (lambda m: expert_coverage(0, 2, 1), "experts must be a whole number, 1 or more; got 0"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(known("llama-3.1-8b"))
