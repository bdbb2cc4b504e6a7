import itertools
import math
import subprocess
import sys

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kvlib.catalogue import model as known
from kvlib.cluster import (
    _search,
    longest_context,
    most_sequences,
    plan,
    plans_per_second,
    rank,
    size_cluster,
)
from kvlib.configs import from_config
from kvlib.layout import _cut
from kvlib.model import Chunked, Compressed, Full, Latent, Model, NoCache, Recurrent, Shared, Sliding
from kvlib.question import ask
from kvlib.shards import Split, cuts, stage_caches, stage_weights
from kvlib.units import GB, GiB

# The assumptions of the published table: 92 % of what the driver shows, nothing for activation or runtime.
BARE = {"utilisation": 0.92, "activation": 0, "runtime": 0}
# FP8 checkpoints leave embedding, head and norms in bf16.
FP8 = {"other": "fp8", "embedding": "bf16", "head": "bf16", "norms": "bf16"}


# --- figures that others published


# (model, H100 needed for one sequence of 200K, 1M, 2M with everything in fp8, the same in bf16): total bytes over
# 0.92 x 85.52 GB, rounded up. Computed in 2026-11 from public configs and advertised parameter counts; a bag of bytes.
NEEDED = [
    ("llama-2-7b", (1, 4, 7), (2, 7, 14)),
    ("gpt-3-175b", (9, 33, 63), (17, 65, 125)),
    ("llama-3.1-8b", (1, 1, 2), (1, 2, 4)),
    ("qwen2.5-7b-instruct-1m", (1, 1, 1), (1, 1, 2)),
    ("qwen2.5-14b-instruct-1m", (1, 2, 3), (1, 3, 6)),
    ("qwen3-8b", (1, 2, 2), (1, 3, 4)),
    ("qwen3-32b", (1, 3, 4), (2, 5, 8)),
    ("qwen3-30b-a3b", (1, 2, 2), (2, 3, 4)),
    ("qwen3-235b-a22b", (4, 5, 6), (7, 9, 11)),
    ("qwen3-coder-480b", (7, 8, 10), (13, 16, 19)),
    ("qwen3.5-27b", (1, 1, 2), (1, 2, 3)),
    ("nemotron-3-nano-30b-a3b", (1, 1, 1), (1, 1, 1)),
    ("llama-3.1-70b", (2, 3, 6), (3, 6, 11)),
    ("mixtral-8x22b", (3, 4, 5), (5, 7, 10)),
    ("llama-3.1-405b", (6, 9, 12), (12, 17, 24)),
    ("llama-4-scout", (2, 2, 3), (3, 4, 5)),
    ("gemma-3-27b", (1, 1, 2), (1, 2, 3)),
    ("gpt-oss-20b", (1, 1, 1), (1, 1, 2)),
    ("gpt-oss-120b", (2, 2, 2), (4, 4, 4)),
    ("minimax-m2.5", (4, 5, 7), (7, 10, 13)),
    ("deepseek-v3", (9, 9, 10), (18, 18, 19)),
    ("deepseek-v3.2", (9, 10, 10), (18, 19, 20)),
    ("deepseek-v4-pro", (21, 21, 21), (41, 41, 41)),
]


@pytest.mark.parametrize(("name", "fp8", "bf16"), NEEDED, ids=[row[0] for row in NEEDED])
def test_h100s_as_one_bag_of_bytes_match_the_published_table(name, fp8, bf16):
    for stored, counts in (("fp8", fp8), ("bf16", bf16)):
        for context, wanted in zip((200_000, 1_000_000, 2_000_000), counts, strict=True):
            ranking = size_cluster(name, context, 1, "h100-sxm", stored, stored, max_gpus=160, **BARE)
            assert ranking.bag == wanted
            # Layers and heads do not cut anywhere: a real layout needs as many or a few more, never fewer.
            assert wanted <= ranking.best.gpus <= max(wanted + 2, 1.2 * wanted)


def test_a_model_sold_with_a_rounder_name_needs_one_card_less_than_the_table_says():
    """Kimi K2 counts 1.026 T weights, the table 1.04 T; Gemma 4 31B 30.7 G, the table 31: 78.6 GB of 78.7."""
    assert size_cluster("kimi-k2", 2_000_000, 1, "h100-sxm", "fp8", "fp8", **BARE).bag == 14
    assert size_cluster("gemma-4-31b", 200_000, 1, "h100-sxm", **BARE).bag == 1


def test_two_million_tokens_take_several_to_a_few_dozen_h100():
    """The article's claim, with real layouts: 70B to 405B on 6 to 12 cards in fp8 and 11 to 24 in bf16."""
    found = {
        (name, stored): size_cluster(name, 2_000_000, 1, "h100-sxm", stored, stored, **BARE).best
        for name in ("llama-3.1-70b", "llama-3.1-405b")
        for stored in ("fp8", "bf16")
    }
    assert [best.gpus for best in found.values()] == [6, 12, 12, 24]
    # 11 cards would hold the bytes of a 70B in bf16, but 80 layers on 11 stages put 8 on one: 79.6 GB of 78.7
    eleven = plan("llama-3.1-70b", 2_000_000, 1, "h100-sxm", pp=11, **BARE)
    assert not eleven.fits
    assert 8 * (139e9 + 655e9) / 80 > 0.92 * 85.52e9
    assert size_cluster("llama-3.1-8b", 2_000_000, 1, "h100-sxm", "fp8", "fp8", **BARE).best.gpus == 2
    assert size_cluster("llama-3.1-8b", 2_000_000, 1, "h100-sxm", **BARE).best.gpus == 4
    assert size_cluster("nemotron-3-nano-30b-a3b", 2_000_000, 1, "h100-sxm", **BARE).best.gpus == 1


@pytest.mark.parametrize(("context", "published"), [(200_000, 17), (1_000_000, 3.4), (8_000, 426)])
def test_eight_h100_share_a_70b_among_as_many_users_as_published(context, published):
    found = most_sequences("llama-3.1-70b", context, "h100-sxm", 8, "fp8", "fp8", **BARE)
    assert found == int(published)
    held = plan("llama-3.1-70b", context, 1, "h100-sxm", "fp8", "fp8", tp=8, **BARE).per_gpu
    assert (held.free + held.kv_cache) / held.kv_cache == pytest.approx(published, rel=0.02)


# weights of one rank in GiB, as vLLM printed them after loading
LOADED = [
    ("llama-3.3-70b", FP8, 2, 33.88, 0.002, "llm-d-planner, table of measurements"),
    ("llama-3.1-8b", "bf16", 1, 14.99, 0.003, "llm-d-planner, table of measurements"),
    ("llama-3.1-8b", "bf16", 1, 14.96, 0.001, "vLLM log, A100 40 GB"),
    ("qwen2.5-32b", "bf16", 2, 30.71, 0.007, "vLLM log, two L40S"),
    ("qwen2.5-32b", "bf16", 4, 15.54, 0.02, "SGLang log 2025-03-08"),
    ("minimax-m2.5", FP8, 4, 53.75, 0.004, "vLLM log, four RTX PRO 6000"),
    # its FP8 checkpoint quantises the feed-forward blocks only, and not those of the first and last layer
    ("llama-3.1-405b", {"other": "bf16", "mlp": "fp8"}, 8, 57.752, 0.03, "vllm-project/vllm#6746"),
]


@pytest.mark.parametrize(("name", "stored", "tp", "logged", "below", "source"), LOADED)
def test_weights_of_a_rank_come_close_to_the_log_and_never_above(name, stored, tp, logged, below, source):
    ours = plan(name, 1, 1, "h100-sxm", stored, tp=tp).per_gpu.weights / GiB
    assert logged * (1 - below) <= ours <= logged * 1.0005, source


# KV bytes that vLLM said one rank needs for one full-length sequence, GiB to two decimals
REFUSALS = [
    ("minimax-m2.5", 196_608, {"tp": 2}, 23.25, "eugr/spark-vllm-docker#396"),
    ("llama-3.1-70b", 131_072, {"tp": 2}, 20.0, "vLLM log: 27.0 GiB, of which 7.0 for a draft model"),
    # vLLM printed 24.0: it counted all 48 layers although a stage of two holds 24 (vllm-project/vllm#34076)
    ("qwen3-30b-a3b", 262_144, {"pp": 2}, 24.0 / 2, "vllm-project/vllm#34076"),
]


@pytest.mark.parametrize(("name", "context", "degrees", "logged", "source"), REFUSALS)
def test_cache_of_a_rank_is_what_the_engine_says_it_needs(name, context, degrees, logged, source):
    assert round(plan(name, context, 1, "h200-sxm", **degrees).per_gpu.kv_cache / GiB, 2) == logged, source


def test_kv_heads_are_repeated_beyond_their_number():
    """vllm#21348: Qwen3-235B-A22B, 4 KV heads, 48,128 bytes per token and rank at TP 4. Nobody ever holds 0 heads."""
    per_token = {
        tp: plan("qwen3-235b-a22b", 1_000, 1, "h100-sxm", tp=tp).per_gpu.kv_cache / 1_000 for tp in (1, 2, 4, 8)
    }
    assert per_token == {1: 192_512, 2: 96_256, 4: 48_128, 8: 48_128}
    by_weights = [plan("qwen3-235b-a22b", 1_000, 1, "h100-sxm", tp=tp).per_gpu.weights for tp in (4, 8)]
    assert by_weights[1] < by_weights[0]  # a wider group frees weights, not cache


@pytest.mark.parametrize("name", ["deepseek-v3", "kimi-k2", "deepseek-v2-lite"])
def test_tp_does_not_divide_an_mla_latent(name):
    """Planners that divide it promise TP times the capacity (llm-d-planner, kaito#2132)."""
    layers = len(known(name).layers)
    for tp in (1, 2, 4, 8):
        assert plan(name, 4_096, 3, "b300", "fp8", tp=tp).per_gpu.kv_cache == 3 * 4_096 * layers * (512 + 64) * 2


def test_activation_is_charged_on_every_gpu():
    """llm-d-planner charges it once per replica; its own table shows 4.84 GiB per GPU at TP 2."""
    for degrees in ({}, {"tp": 2}, {"tp": 8}, {"pp": 4}, {"dp": 3}):
        assert plan("llama-3.1-8b", 8_192, 8, "h100-sxm", **degrees).per_gpu.activation == round(4.84 * GiB)


FLASH = {
    "model_type": "deepseek_v4",
    "hidden_size": 4096,
    "num_hidden_layers": 43,
    "num_attention_heads": 64,
    "num_key_value_heads": 1,
    "head_dim": 512,
    "q_lora_rank": 1024,
    "o_lora_rank": 1024,
    "o_groups": 8,
    "qk_rope_head_dim": 64,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 6,
    "moe_intermediate_size": 2048,
    "index_topk": 512,
    "index_n_heads": 64,
    "index_head_dim": 128,
    "hc_mult": 4,
    "num_hash_layers": 3,
    "sliding_window": 128,
    "vocab_size": 129280,
    "max_position_embeddings": 1048576,
    "tie_word_embeddings": False,
    "compress_ratios": [0, 0, *[4, 128] * 20, 4],
}


def test_data_parallel_attention_serves_what_tp_cannot():
    """vllm#51454: DeepSeek-V4-Flash on 8 x B200, 20.43 requests of full length at TP 8, 156.9 at DP 8: 7.68 times.

    Neither absolute number is reproduced (pages of five widths); the ratio follows from what each GPU has to hold.
    """
    flash = from_config(FLASH, "deepseek-v4-flash")
    native = {"other": "fp8", "experts": "nvfp4", "embedding": "bf16", "head": "bf16"}
    room = []
    for degrees in ({"tp": 8}, {"dp": 8, "ep": 8}):
        found = plan(flash, 1_048_576, 8, "b200", native, "fp8", utilisation=0.95, **degrees)
        assert found.fits
        each = found.per_gpu.kv_cache // (8 // found.dp)
        room.append(found.dp * (found.per_gpu.free + found.per_gpu.kv_cache) / each)
    assert room[1] / room[0] == pytest.approx(156.9 / 20.43, rel=0.01)


def test_decode_context_parallelism_stripes_a_latent():
    """vllm recipes, Kimi-K2-Thinking on 8 x H200, TP 8: 715,072 tokens, and 5,721,088 with DCP 8 (8.0007 times)."""
    int4 = {"other": "bf16", "experts": "nvfp4"}  # int4 with a 16-bit scale per 32 weights: 4.5 bits, as nvfp4 has
    fixed = {"tp": 8, "pp": 1, "dp": 1, "runtime": round(1.74 * GiB)}
    tokens = [longest_context("kimi-k2", 1, "h200-sxm", 8, int4, dcp=n, **fixed) for n in (1, 8)]
    assert tokens[0] == pytest.approx(715_072, rel=0.08)
    assert tokens[1] / tokens[0] == pytest.approx(8.0007, rel=0.001)


# (model, weights, GPU, layout, context): deployments that are known to run
RUNNING = [
    # NVIDIA/TensorRT-LLM perf-overview, 1.0
    ("llama-3.3-70b", "nvfp4", "rtxpro6000", {}, 256),
    ("llama-3.3-70b", "fp8", "h100-sxm", {"tp": 2}, 2_176),
    ("llama-3.3-70b", "fp8", "h200-sxm", {}, 4_224),
    ("llama-3.1-405b", "fp8", "h100-sxm", {"tp": 8}, 256),
    ("llama-3.1-405b", "fp8", "h200-sxm", {"tp": 8}, 2_000),
    ("llama-3.1-405b", "nvfp4", "b200", {"tp": 4}, 2_000),
    ("llama-3.1-405b", "nvfp4", "gb200-nvl72", {"tp": 4}, 256),
    ("llama-3.1-8b", "fp8", "h200-sxm", {}, 22_000),
    ("qwen3-235b-a22b", "fp8", "h100-sxm", {"tp": 8, "ep": 8}, 2_000),
    # NVIDIA/TensorRT-LLM developer guide, 1.2: attention data-parallel, experts shared out ("DEP")
    ("deepseek-r1", "fp8", "h200-sxm", {"dp": 8, "ep": 8}, 2_048),
    ("deepseek-r1", "nvfp4", "b200", {"dp": 4, "ep": 4}, 9_216),
    ("gpt-oss-120b", "mxfp4", "h100-sxm", {"dp": 4, "ep": 4}, 33_792),
    ("gpt-oss-120b", "mxfp4", "h200-sxm", {}, 2_048),
    # NVIDIA/TensorRT-LLM performance.md, v0.6.1
    ("llama-2-70b", "fp16", "a100-80-sxm", {"tp": 4}, 2_176),
    ("llama-7b", "fp8", "l40s", {}, 256),
    # MLPerf Inference v4.1
    ("llama-2-70b", "fp8", "gh200-144", {}, 1_024),
    ("llama-2-70b", "fp8", "mi300x", {}, 1_024),
    # ML.ENERGY leaderboard
    ("llama-3.1-405b", "bf16", "b200", {"tp": 8}, 1_024),
    ("llama-3.1-70b", "bf16", "b200", {"tp": 2}, 1_024),
    ("llama-3.1-70b", "bf16", "h100-sxm", {"tp": 4}, 1_024),
    # vLLM start-up logs
    ("qwen2.5-32b", "bf16", "l40s", {"tp": 2}, 10_000),
    ("qwen3-32b", "fp8", "h100-sxm", {}, 32_768),
    ("qwen3-235b-a22b", "fp8", "h100-sxm", {"tp": 4}, 40_960),
    ("minimax-m2.5", FP8, "rtxpro6000", {"tp": 4}, 196_608),
    ("qwen3.5-27b", "nvfp4", "rtx5090", {"tp": 2}, 262_144),
    ("gemma-4-31b", "bf16", "h200-sxm", {}, 262_144),
    # DeepSeek open-infra-index, day 6: prefill on 4 nodes of 8 x H800, EP 32 and DP 32
    ("deepseek-v3", "fp8", "h800-sxm", {"dp": 32, "ep": 32}, 4_989),
]


@pytest.mark.parametrize(("name", "stored", "card", "degrees", "context"), RUNNING)
def test_deployments_that_run_are_not_called_impossible(name, stored, card, degrees, context):
    found = plan(name, context, 1, card, stored, **degrees)
    assert found.fits, found.why
    ranking = size_cluster(name, context, 1, card, stored, max_gpus=found.gpus, **degrees)
    assert ranking.best.split == found.split
    assert size_cluster(name, context, 1, card, stored, max_gpus=found.gpus).best.gpus <= found.gpus


def test_deployments_that_do_not_run_are_called_so():
    """405B in bf16 on one node of H100: 812 GB of weights, 684 GB of memory."""
    ranking = size_cluster("llama-3.1-405b", 1_024, 1, "h100-sxm", max_gpus=8)
    assert ranking.best is None and not ranking[0].fits
    assert "weights need" in ranking[0].why
    refusing = plan(
        "gpt-oss-120b", 131_072, 1, "h100-sxm", {"other": "bf16", "experts": "mxfp4"}, activation=7.38 * GiB
    )
    assert not refusing.fits  # vllm#23278: KV -2.14 GiB on one H100


# --- constraints


@pytest.mark.parametrize(
    ("name", "degrees", "why"),
    [
        ("llama-3.1-70b", {"tp": 6}, "TP 6 does not divide the 64 query heads"),
        ("qwen2.5-0.5b", {"tp": 4}, "TP 4 does not divide the 14 query heads"),
        ("llama-4-scout", {"tp": 5}, "TP 5 neither divides the 8 KV heads"),
        ("qwen3.5-27b", {"tp": 3}, "TP 3 does not divide the recurrent state"),
        ("mamba2-2.7b", {"tp": 3}, "TP 3 does not divide the recurrent state"),
        ("llama-3.1-70b", {"tp": 16}, "TP 16 does not fit into one domain of 8 GPUs"),
        ("llama-3.1-70b", {"pp": 81}, "PP 81 is more than the 80 layers"),
        ("llama-3.1-70b", {"ep": 2}, "EP 2 needs experts"),
        ("deepseek-v3", {"ep": 3, "dp": 3}, "EP 3 does not divide the 256 experts"),
        ("deepseek-v3", {"tp": 2, "ep": 8, "dp": 2}, "EP 8 is not TP 2 times a divisor of DP 2"),
        ("deepseek-v3", {"tp": 4, "dcp": 3}, "DCP 3 does not divide TP 4"),
        ("llama-3.1-70b", {"tp": 8, "dcp": 2}, "DCP 2 needs TP of 8 KV heads x 2 or more"),
        ("gpt-oss-20b", {"tp": 8, "dcp": 2}, "DCP 2 does not work with the sliding layers"),
    ],
)
def test_an_impossible_layout_says_what_it_breaks(name, degrees, why):
    found = plan(name, 1_000, 1, "h200-sxm", **degrees)
    assert not found.fits and found.per_gpu is None
    assert why in found.why
    listed = size_cluster(name, 1_000, 1, "h200-sxm", **degrees)
    assert listed.best is None and why in listed[0].why and why in repr(listed)


def test_tp_stays_inside_a_domain_that_the_gpu_or_the_caller_names():
    def widest(card, **settings):
        return max(p.tp for p in size_cluster("llama-3.1-405b", 8_192, 1, card, "fp8", keep=10**6, **settings).fitting)

    assert widest("h100-sxm") == 8
    assert widest("gb200-nvl72") == 64  # 128 heads: 64 is the largest divisor up to 72
    assert widest("h100-sxm", domain=16) == 16
    assert widest("h100-sxm", domain=2) == 2
    crossing = plan("qwen2.5-32b", 8_192, 1, "l40s", tp=4)  # works over PCIe, and says what it costs
    assert crossing.fits and "slow" in crossing.why


def test_the_first_thing_that_does_not_fit_is_named_in_gb_and_gib():
    assert plan("llama-3.1-8b", 1_000, 1, 4 * GB).why.startswith("on the fullest GPU weights need 16.1 GB (15 GiB)")
    assert "activation and runtime need" in plan("llama-3.1-8b", 1_000, 1, 1 * GB).why
    full = plan("llama-3.1-8b", 2_000_000, 1, "h100-sxm")
    assert "the KV cache needs 262 GB (244 GiB)" in full.why and "short" in full.why
    stage = plan("llama-3.1-405b", 1_000, 1, "h100-sxm", pp=4)
    # 31, 32, 32 and 31 layers of (405.85 - 2 x 2.10) G / 126; embedding and head do not make up for the 32nd
    assert "(stage 2 of 4) weights need 204 GB" in stage.why


def test_a_context_beyond_training_is_a_note_and_a_gpu_without_record_counts_its_label():
    long = size_cluster("llama-3.1-8b", 200_000, 1, "h100-sxm")
    assert long.best.fits and "trained for 131,072 tokens" in repr(long) and long.warnings[0] in long._repr_html_()
    assert size_cluster("llama-3.1-8b", 131_072, 1, "h100-sxm").warnings == ()
    card = plan("llama-3.1-8b", 1_000, 1, "mi300x")
    assert card.per_gpu.total == 192 * GB and "label" in card.question.warnings[0]


def test_kv_dtype_does_not_follow_the_weights():
    assert plan("llama-3.1-8b", 1_000, 1, "h100-sxm", "fp8").per_gpu.kv_cache == 131_072_000
    assert plan("llama-3.1-8b", 1_000, 1, "h100-sxm", "bf16", "fp8").per_gpu.kv_cache == 65_536_000
    assert plan("deepseek-v3.2", 1_000, 1, "b300", "fp8", "fp8_ds_mla", tp=8).per_gpu.kv_cache == 48_068_000


def test_ep_shares_the_experts_of_data_parallel_copies():
    alone, shared = (plan("deepseek-v3", 1_000, 8, "b300", "fp8", tp=1, dp=8, ep=ep) for ep in (1, 8))
    routed = dict(known("deepseek-v3").weights)["experts"]
    assert alone.per_gpu.weights - shared.per_gpu.weights == routed - routed // 8
    assert not alone.fits and shared.fits
    assert alone.per_gpu.kv_cache == shared.per_gpu.kv_cache == 1_000 * 70_272


@pytest.mark.parametrize(
    ("layer", "queries_and_output", "whole"),
    [
        (Full(4, 128, 128), 2 * 4_096 * 64 * 128, 4_096 * 2 * 128),  # a head's key and value projection
        (Latent(512, 64), 128 * (192 * 4_096 + 256 * 512), 4_096 * (512 + 64)),  # down to the latent
        (Latent(512, 64, 128), 128 * 192 * 4_096, 4_096 * (512 + 64 + 128)),  # and to the indexer's key
        (Compressed(512, 128, 4, 128), 64 * 512 * 4_096, 4_096 * 512),
    ],
)
def test_projections_that_every_gpu_needs_are_counted_on_every_gpu(layer, queries_and_output, whole):
    """Beyond the KV heads each GPU holds its share of queries and output, and one whole key and value projection."""
    groups = layer.kv_heads if isinstance(layer, Full) else 1
    weights = (("attention", 3 * (queries_and_output + groups * whole)),)
    model = Model("made up", (layer,) * 3, weights, hidden_size=4_096, query_heads=64)
    for tp in (4, 8):
        held = plan(model, 1, 1, "h100-sxm", tp=tp).per_gpu.weights
        assert held == 3 * 2 * (queries_and_output // tp + whole)


def test_runtime_memory_goes_by_layout():
    def runtime(**degrees):
        return plan("deepseek-v3", 1_000, 1, "b300", "fp8", **degrees).per_gpu.runtime / GiB

    assert round(runtime(), 2) == round(runtime(dp=4), 2) == 0.13  # L035 of the logs: one H100 alone
    assert round(runtime(tp=8), 2) == round(runtime(pp=2), 2) == round(runtime(dp=8, ep=8), 2) == 1.74
    assert round(runtime(tp=8, dcp=8), 2) == 1.74 + 2.7
    assert plan("deepseek-v3", 1_000, 1, "b300", tp=8, dcp=8, runtime=5).per_gpu.runtime == 5


def test_a_gpu_filled_to_the_last_byte_still_fits():
    used = plan("llama-3.1-8b", 8_192, 2, "h100-sxm").per_gpu.used
    card = {"utilisation": 1.0, "activation": plan("llama-3.1-8b", 1, 1, "h100-sxm").per_gpu.activation}
    exact = plan("llama-3.1-8b", 8_192, 2, used, **card)
    assert exact.fits and exact.per_gpu.free == 0
    assert exact.longest_context() == 8_192 and exact.most_sequences() == 2
    assert not plan("llama-3.1-8b", 8_192, 2, used - 1, **card).fits
    assert size_cluster("llama-3.1-8b", 8_192, 2, used, max_gpus=1, **card).best.gpus == 1


def test_copies_without_a_sequence_still_carry_experts():
    """One head, one layer: neither TP nor PP can cut it. Eight copies share 80 GB of experts for one user."""
    stuck = Model("stuck", (Full(1, 64, 64),), (("experts", 40 * 10**9),), query_heads=1, experts=8)
    assert longest_context(stuck, 1, "h100-sxm", 7, ep=1) == 0
    room = 0.9 * 85_520_809_984 - 10 * 10**9 - (4.84 + 1.74) * GiB
    assert longest_context(stuck, 1, "h100-sxm", 8) == pytest.approx(room // 256, abs=1)


def test_domains_hold_whole_tp_groups():
    def domains(**degrees):
        return plan("phi-2", 1_000, 1, "h100-sxm", domain=8, **degrees).domains

    assert domains(tp=4, pp=2, dp=2) == 2 and domains(tp=8, dp=3) == 3 and domains() == domains(dp=8) == 1
    assert plan("qwen2.5-0.5b", 1_000, 1, "h100-sxm", tp=7, dp=2, domain=8).domains == 2  # 7 + 7 > 8


def test_tied_embeddings_are_held_twice_by_a_pipeline():
    tied = known("llama-3.2-1b")
    formats = ask(tied, 1, 1, "h100-sxm").formats
    table = dict(tied.weights)["embedding"] * 2
    whole = stage_weights(tied, formats, Split())[0]
    assert sum(stage_weights(tied, formats, Split(pp=2))) == whole + table
    assert whole == tied.weight_bytes()


def test_the_vocabulary_is_padded_to_a_multiple_of_64_and_tp():
    """GPT-2's 50,257 rows become 50,304, the padding that made nanoGPT a quarter faster."""
    gpt2 = known("gpt2")
    formats = ask(gpt2, 1, 1, "h100-sxm").formats
    assert stage_weights(gpt2, formats, Split())[0] - gpt2.weight_bytes() == (50_304 - 50_257) * 768 * 2


@pytest.mark.parametrize(("layers", "pp"), list(itertools.product((1, 7, 61, 80, 126), (1, 2, 3, 7, 11))))
def test_stages_are_cut_as_the_pool_cuts_them(layers, pp):
    assert cuts(layers, min(pp, layers)) == _cut(layers, min(pp, layers))


def test_the_engine_of_a_plan_can_be_asked_for_its_pool():
    found = plan("llama-3.1-70b", 131_072, 1, "h100-sxm", "fp8", tp=4)
    pool = found.pool()
    assert pool.blocks == (found.per_gpu.free + found.per_gpu.kv_cache) // pool.block_bytes
    assert math.floor(pool.max_concurrency) == found.most_sequences()
    with pytest.raises(ValueError, match="TP 6"):
        plan("llama-3.1-70b", 131_072, 1, "h100-sxm", tp=6).pool()


# --- properties, on models that nobody published

heads = st.sampled_from([1, 2, 4, 8, 12])
layers = st.one_of(
    st.builds(Full, heads, st.just(64), st.just(64)),
    st.builds(Sliding, heads, st.just(64), st.just(64), st.sampled_from([16, 4_096])),
    st.builds(Chunked, heads, st.just(64), st.just(64), st.just(8_192)),
    st.builds(Latent, st.just(512), st.just(64), st.sampled_from([0, 128])),
    st.builds(Recurrent, st.sampled_from([1_024, 3_000_000]), st.just(96), st.just(4)),
    st.just(Shared()),
    st.just(NoCache()),
)


@st.composite
def models(draw):
    stack = draw(st.lists(layers, min_size=1, max_size=9))
    expert = draw(st.sampled_from([0, 0, 6, 8]))
    sizes = st.integers(0, 30 * 10**9)
    parts = {
        "embedding": 2_500 * 512,
        "attention": draw(sizes),
        "mlp": draw(sizes),
        "norms": draw(st.integers(0, 10**6)),
    }
    if draw(st.booleans()):
        parts["head"] = 2_500 * 512
    if expert:
        parts |= {"experts": draw(st.integers(expert, 200 * 10**9)), "router": 512 * expert}
    return Model(
        "made up",
        tuple(stack),
        tuple(parts.items()),
        hidden_size=512,
        query_heads=draw(st.sampled_from([0, 12, 16, 24])),
        vocab_size=2_500,
        experts=expert,
        experts_per_token=min(2, expert),
    )


contexts = st.integers(1, 3_000_000)
users = st.integers(1, 300)
formats = st.sampled_from(["bf16", "fp8", "mxfp4", "int4_g128", {"other": "bf16", "experts": "nvfp4"}])
caches = st.sampled_from(["bf16", "fp8", "q8_0"])


@settings(max_examples=150, deadline=None)
@given(models(), contexts, users, formats, caches, st.integers(1, 24), st.sampled_from([1, None]))
def test_arrays_rank_exactly_as_the_loop_does(model, context, sequences, stored, kv, gpus, dcp):
    question = ask(model, context, sequences, "h100-sxm", stored, kv)
    search = _search(question, gpus, tp=None, pp=None, dp=None, ep=None, dcp=dcp)
    slow, fast = (rank(search, 10**6, fast=way) for way in (False, True))
    assert (slow.tried, slow.fit_count) == (fast.tried, fast.fit_count)
    assert slow.tried == len(list(search.splits()))
    assert [p.split for p in slow.plans] == [p.split for p in fast.plans]
    assert len(slow.fitting) == slow.fit_count and all(p.fits for p in slow.fitting)
    order = [(p.gpus, -p.per_gpu.free) for p in slow.fitting]
    assert order == sorted(order)


@settings(max_examples=100, deadline=None)
@given(models(), contexts, users, formats, st.integers(1, 16))
def test_what_fits_is_monotonic(model, context, sequences, stored, gpus):
    def fewest(tokens, many, most):
        best = size_cluster(model, tokens, many, "h100-sxm", stored, max_gpus=most).best
        return best.gpus if best else math.inf

    base = fewest(context, sequences, gpus)
    assert fewest(context + 1_000, sequences, gpus) >= base  # more context never needs fewer GPUs
    assert fewest(context, sequences + 7, gpus) >= base  # nor do more sequences
    assert fewest(context, sequences, gpus + 3) <= base  # more GPUs to try never make it worse
    bag = size_cluster(model, context, sequences, "h100-sxm", stored, max_gpus=gpus).bag
    assert bag <= base  # and no layout beats a bag of bytes


@settings(max_examples=150, deadline=None)
@given(models(), contexts, users, formats, st.sampled_from([1, 2, 3, 4, 8]), st.integers(1, 9), st.integers(1, 9))
def test_bytes_of_a_plan_add_up(model, context, sequences, stored, tp, pp, dp):
    found = plan(model, context, sequences, "h100-sxm", stored, tp=tp, pp=pp, dp=dp)
    assume(found.per_gpu is not None)
    held = found.per_gpu
    assert sum(size for _, size in held.parts) == held.total == 85_520_809_984
    assert found.gpus == tp * pp * dp and found.fits == (held.used <= held.limit)
    question = found.question
    per_sequence = stage_caches(model, context, "bf16", found.split)
    assert sum(per_sequence) == model.cache_bytes(context, tp=tp)  # no layer lost or counted twice
    weights = stage_weights(model, question.formats, found.split)
    assert max(weights) >= sum(stage_weights(model, question.formats, Split())) / (tp * pp)  # never below an even split
    each = -(-sequences // dp)
    assert held.used - held.activation - held.runtime == max(
        w + each * c for w, c in zip(weights, per_sequence, strict=True)
    )


@settings(max_examples=60, deadline=None)
@given(models(), contexts, users, formats, st.integers(1, 6))
def test_inverse_answers_fit_and_one_more_does_not(model, context, sequences, stored, gpus):
    def fits(tokens, many):
        return size_cluster(model, tokens, many, "h100-sxm", stored, max_gpus=gpus).best is not None

    many = most_sequences(model, context, "h100-sxm", gpus, stored)
    if many not in (0, math.inf):
        assert fits(context, many)
    if many != math.inf:
        assert not fits(context, many + 1)
    tokens = longest_context(model, sequences, "h100-sxm", gpus, stored)
    if tokens == math.inf:
        assert fits(10**15, sequences)
    else:
        assert tokens == 0 or fits(tokens, sequences)
        assert not fits(tokens + 1, sequences)


def test_inverse_answers_of_real_plans():
    found = plan("deepseek-v3", 32_768, 64, "h200-sxm", "fp8", dp=8, ep=8)
    longest, most = found.longest_context(), found.most_sequences()
    again = {"dp": 8, "ep": 8}
    assert plan("deepseek-v3", longest, 64, "h200-sxm", "fp8", **again).fits
    assert not plan("deepseek-v3", longest + 1, 64, "h200-sxm", "fp8", **again).fits
    assert plan("deepseek-v3", 32_768, most, "h200-sxm", "fp8", **again).fits
    assert not plan("deepseek-v3", 32_768, most + 1, "h200-sxm", "fp8", **again).fits
    assert longest_context("mamba2-2.7b", 1, "h100-sxm", 1) == math.inf  # the state never grows
    assert (
        longest_context("llama-3.1-405b", 1, "h100-sxm", 8) == most_sequences("llama-3.1-405b", 1, "h100-sxm", 8) == 0
    )


# --- bad input

GOOD = {"model": "llama-3.1-8b", "context": 8_192, "sequences": 1, "gpu": "h100-sxm"}
BAD = {
    "model": ["llama-9", None, 8, Model("empty", ())],
    "context": [0, -1, 2.5, "8K", None, True, 10**16, float("nan")],
    "sequences": [0, -1, 1.5, "one", None, 10**400],
    "gpu": ["h101", "", None, 0, -1, float("nan"), float("inf"), True, [], 10**400],
    "weight_dtype": ["fp7", None, 16, {}, {"experts": "fp8"}, {"other": "fp7"}],
    "kv_dtype": ["fp7", 8, "fp8_ds_mla"],
    "max_gpus": [0, -8, 1.5, "8", None, 10**9],
    "utilisation": [0, -0.5, 1.01, float("nan"), "0.9", None, True],
    "activation": [-1, float("nan"), float("inf"), "5 GiB", True, 10**400],
    "runtime": [-1, float("nan"), "2 GiB", True],
    "domain": [0, -1, 1.5, "8"],
    "tp": [0, -1, 1.5, "8", True],
    "pp": [0, 2.5],
    "dp": [0, "all"],
    "ep": [0, -3],
    "dcp": [0, 0.5],
    "keep": [0, -1, 2.5],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_bad_input_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=rf"\b{name}\b"):
        size_cluster(**{**GOOD, name: value})


def test_an_unknown_gpu_suggests_the_nearest_and_a_fixed_layout_too_large_says_so():
    with pytest.raises(ValueError, match="did you mean h100-sxm"):
        size_cluster("llama-3.1-8b", 8_192, 1, "h100-sxn")
    large = size_cluster("llama-3.1-8b", 8_192, 1, "h100-sxm", max_gpus=8, tp=8, dp=2)
    assert large.best is None and "needs 16 GPUs, and max_gpus is 8" in large[0].why
    with pytest.raises(ValueError, match="gpus"):
        longest_context("llama-3.1-8b", 1, "h100-sxm", 0)
    with pytest.raises(ValueError, match="kv_dtype"):
        size_cluster("deepseek-v4-pro", 8_192, 1, "h100-sxm", kv_dtype="fp8_ds_mla")


junk = st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=3), st.lists(st.none()))


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(BAD)), junk, min_size=1, max_size=3))
def test_junk_gives_a_ranking_or_a_value_error(changes):
    changes = {k: v for k, v in changes.items() if not (k in ("max_gpus", "domain") and isinstance(v, int) and v > 500)}
    try:
        ranking = size_cluster(**{**GOOD, "max_gpus": 4, **changes})
    except ValueError:
        return
    assert repr(ranking) and ranking._repr_html_()


# --- output, speed, imports


def test_a_ranking_reads_well_and_is_a_sequence():
    ranking = size_cluster("llama-3.1-70b", 200_000, 16, "h100-sxm", "fp8")
    text, page = repr(ranking), ranking._repr_html_()
    assert "weights 70.6 GB (65.7 GiB) + KV cache 1.05 TB (0.95 TiB): at least 16 GPUs" in text
    assert ranking[0] is ranking.best and len(ranking) == len(list(ranking)) == len(ranking.plans)
    assert page.count("<tr>") == page.count("</tr>") and "<script" not in page
    assert all(p.why for p in ranking)
    assert all(p.gpus < ranking.best.gpus for p in ranking.misses)  # why not fewer
    held = repr(ranking.best.per_gpu)
    assert all(name in held for name in ("weights", "KV cache", "activation", "runtime", "free"))
    hostile = Model("<script>x</script>", (Full(1, 64, 64),))
    assert "<script" not in size_cluster(hostile, 10, 1, "h100-sxm")._repr_html_()
    assert "<script" not in plan(hostile, 10, 1, "h100-sxm", tp=3)._repr_html_()


def test_at_least_a_hundred_thousand_plans_a_second():
    best = max(plans_per_second(0.2) for _ in range(3))
    print(f"{best:,.0f} plans/second")
    assert best > 1e5


def test_a_scalar_question_needs_no_numpy():
    code = """
import sys
sys.modules["numpy"] = None
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "numpy" else find(name, *rest)
from kvlib.cluster import longest_context, plan, size_cluster
assert plan("llama-3.1-8b", 8192, 1, "h100-sxm").fits
assert longest_context("llama-3.1-8b", 1, "h100-sxm", 1) > 100_000
assert size_cluster("llama-3.1-70b", 200_000, 1, "h100-sxm", max_gpus=8).best.gpus == 4
"""
    subprocess.run([sys.executable, "-c", code], check=True)
