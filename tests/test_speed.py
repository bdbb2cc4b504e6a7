"""Prefill, decode and throughput: worked answers from elsewhere, arithmetic by hand, and what must always hold."""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvlib.catalogue import model as known
from kvlib.efficiency import IDEAL, Efficiency
from kvlib.hardware import gpu
from kvlib.model import Model, Recurrent
from kvlib.placement import place
from kvlib.precision import cache_format, peak_unit
from kvlib.shards import Split, stage_weights
from kvlib.speed import decode_seconds, prefill_seconds, ridge, throughput
from kvlib.units import GB

H100 = {"bandwidth": 3.35e12, "bf16": 989e12, "fp8": 1979e12}


# --- figures that others worked out


# FLOPs per byte at which decode becomes compute bound, from the datasheets' figures.
@pytest.mark.parametrize(
    ("name", "bf16", "fp8"),
    [
        ("a100-80-sxm", 153.0, None),
        ("h100-sxm", 295.2, 590.7),
        ("h20", 37.0, 74.0),
        ("h200-sxm", 206.0, 412.3),
        ("b200", 281.2, 562.5),
        ("rtx5090", 116.9, 233.8),
        ("mi300x", 246.6, 493.4),
        ("tpu-v5e", 240.5, None),
    ],
)
def test_ridge_points(name, bf16, fp8):
    assert ridge(name) == pytest.approx(bf16, abs=0.06)
    if fp8:
        assert ridge(name, "fp8") == pytest.approx(fp8, abs=0.06)


def test_a_context_token_costs_its_cache_bytes_over_bandwidth():
    # vLLM measured 4.37e-5 ms per token with a bf16 cache, 2.37e-5 with fp8: a ratio of 1.84
    def slope(kv):
        near, far = (decode_seconds("llama-3.1-8b", "h100-sxm", n, kv_dtype=kv).ideal for n in (10_000, 110_000))
        return (far - near) / 100_000

    assert slope("bf16") == pytest.approx(131_072 / 3.35e12)
    assert slope("bf16") * 1e3 == pytest.approx(3.91e-5, rel=1e-3)
    assert slope("bf16") * 1e3 == pytest.approx(4.37e-5, rel=0.15)
    assert slope("bf16") / slope("fp8") == pytest.approx(2)


def test_scaling_book_decode_of_a_70b_on_eight_tpus():
    # jax-ml/scaling-book: batch 32 at 8,192 tokens, all int8, is 112 GB; v5e 4x2: 17 ms, 1,882 tokens/s, 235 per chip
    step = decode_seconds(
        "llama-3.1-70b", "tpu-v5e", 8192, 32, tp=8, weight_dtype="int8", kv_dtype="int8", compute="bf16"
    )
    assert step.ideal == pytest.approx(0.017, rel=0.02) and step.bound == "memory"
    assert 32 / step.ideal == pytest.approx(1882, rel=0.02)
    assert 32 / step.ideal / 8 == pytest.approx(235, rel=0.02)


def test_scaling_book_critical_batch_of_240_and_120_for_int8_weights():
    # where the weights alone need as long to read as to use; one token of context leaves the cache out
    def critical(weight_dtype):
        place_ = place("llama-3.1-8b", "tpu-v5e", weight_dtype=weight_dtype, kv_dtype="int8", compute="bf16")
        steps = [place_.decode(batch, 1, native=False) for batch in range(1, 400)]
        return next(batch for batch, step in enumerate(steps, 1) if step.work > step.read)

    assert critical("bf16") == pytest.approx(240, abs=2) and critical("int8") == pytest.approx(120, abs=2)


def test_scaling_book_prefill_on_sixteen_tpus():
    # 8,192 tokens at 40 % of the FLOP/s: 0.91 s, attention not counted
    step = place("llama-3.1-70b", "tpu-v5e", tp=16).prefill(8192, native=False)
    assert step.linear / 0.4 == pytest.approx(0.91, rel=0.04)
    assert step.work / 0.4 == pytest.approx(0.91 * 1.05, rel=0.05)


@pytest.mark.parametrize(("tokens", "seconds"), [(200_000, 20), (1_000_000, 367), (2_000_000, 1397)])
def test_70b_prefill_on_eight_h100_at_half_their_speed(tokens, seconds):
    assert prefill_seconds("llama-3.1-70b", "h100-sxm", tokens, tp=8).ideal * 2 == pytest.approx(seconds, rel=0.015)


def test_price_of_a_token_rises_eighteen_fold_from_8k_to_2m():
    short, long = (prefill_seconds("llama-3.1-70b", "h100-sxm", n, tp=8).ideal / n for n in (8_192, 2_000_000))
    assert long / short == pytest.approx(18, rel=0.05)


def test_day_of_deepseek_and_infersim_stay_below_the_ceiling():
    # one node of eight H800: 73,700 tokens/s in, of which 56.3 % hit the cache; 14,800 tokens/s out at 4,989 tokens
    one = prefill_seconds("deepseek-v3", "h800-sxm", 2048, batch=64, tp=8, weight_dtype="fp8").ideal
    assert 64 * 2048 / one > 73_700 * (1 - 0.563)
    assert 64 * 2048 / one > 8 * 7_839  # 7,839 per GPU, alibaba/InferSim
    step = decode_seconds("deepseek-v3", "h800-sxm", 4989, 88 * 128, gpus=128, weight_dtype="fp8", kv_dtype="bf16")
    assert 88 * 128 / step.ideal / 128 > 14_800 / 8


# --- arithmetic by hand


def test_decode_of_one_sequence_reads_weights_and_cache():
    model = known("llama-3.1-8b")
    read = 2 * (model.parameters - 128256 * 4096) + 8192 * 131_072
    found = decode_seconds(model, "h100-sxm", 8192)
    assert found.ideal == pytest.approx(read / H100["bandwidth"]) and found.bound == "memory"


def test_prefill_of_one_prompt_computes():
    model, n = known("llama-3.1-8b"), 4096
    linear = 2 * (model.parameters - 2 * 128256 * 4096) * n + 2 * 128256 * 4096
    attention = 32 * (n * (n + 1) // 2) * 4 * 32 * 128
    found = prefill_seconds(model, "h100-sxm", n, weight_dtype="fp8", kv_dtype="bf16")
    assert found.ideal == pytest.approx(linear / H100["fp8"] + attention / H100["bf16"]) and found.bound == "compute"


def test_short_prompt_is_bound_by_reading_the_weights():
    found = prefill_seconds("llama-3.1-8b", "h100-sxm", 16)
    assert found.bound == "memory" and found.ideal == pytest.approx(15.0e9 / 3.35e12, rel=0.01)


def test_ceiling_of_llama_8b_by_hand():
    # everything in fp8 on an H100, 1,000 in and 1,002 out: 1,001 steps at a mean context of (1,001 + 2,001) / 2
    model = known("llama-3.1-8b")
    batch = (85_520_809_984 - model.parameters) / (1501 * 65_536)
    read = 1001 * (model.parameters - 128256 * 4096 + batch * 1501 * 65_536) / 3.35e12
    per_step = 2 * (model.parameters - 128256 * 4096) + 32 * 1501 * 4 * 32 * 128
    prompt = 2 * (model.parameters - 2 * 128256 * 4096) * 1000 + 2 * 128256 * 4096 + 32 * 500_500 * 4 * 32 * 128
    work = batch * (1001 * per_step + prompt) / 1979e12
    found = throughput(model, "h100-sxm", 1000, 1002, weight_dtype="fp8")
    assert found.ceiling_batch == pytest.approx(batch)
    assert found.ceiling == pytest.approx(batch * 1002 / max(read, work))
    assert found.bound == ("memory" if read > work else "compute")


@pytest.mark.parametrize("name", ["gemma-3-27b", "llama-4-scout", "gpt-oss-20b", "qwen3-next-80b-a3b"])
def test_ceiling_of_a_model_with_windows_is_above_that_of_every_step_counted(name):
    card, tokens_in, tokens_out = replace(gpu("h200-sxm"), visible_bytes=400 * GB), 500, 1200
    found = throughput(name, card, tokens_in, tokens_out, concurrency=40)
    placed = place(name, card)
    steps = [placed.decode(40, tokens_in + i, native=False) for i in range(1, tokens_out)]
    read, work = sum(step.read for step in steps), sum(step.work for step in steps)
    exact = 40 * tokens_out / max(read, work + 40 * placed.prefill(tokens_in, native=False).work)
    assert exact <= found.ceiling * (1 + 1e-9) <= exact * 1.05


def test_estimate_by_hand():
    # 70B in fp8 on two H100: read (a group), compute, two all-reduces a layer, launches and sequences, in turns
    shares = Efficiency(0.8, 0.5, 0.6, 0.4, 0.3, 0.7, 10e-6, 5e-6)
    placed = place("llama-3.3-70b", "h100-sxm", tp=2, weight_dtype="fp8")
    step = placed.decode(100, 2000)
    assert step.group and not step.fp4 and not step.experts
    read = (70_553_706_496 - 128256 * 8192 + 100 * 2000 * 163_840) / 2 / 3.35e12 / 0.5
    work = 100 * (2 * (70_553_706_496 - 128256 * 8192) + 80 * 2000 * 4 * 64 * 128) / 2 / 1979e12 / 0.6
    wire = 2 * 80 * (100 * 8192 * 2 / 450e9 / 0.7 + 6.6e-6 + 2 * 0.6e-6)
    by_hand = max(read, work) + 80 * 10e-6 + 100 * 5e-6 + wire
    assert step.seconds(shares) == pytest.approx(by_hand)
    assert step.seconds(IDEAL) - step.moved - step.waits == pytest.approx(step.floor)


def test_engine_admits_what_will_fit_to_the_end():
    placed = place("llama-3.3-70b", "h100-sxm", tp=2, weight_dtype="fp8")
    per_gpu = stage_weights(known("llama-3.3-70b"), placed.weights, Split(2))[0]
    room = 0.9 * 85_520_809_984 - per_gpu - (4.84 + 1.74) * 2**30
    found = throughput("llama-3.3-70b", "h100-sxm", 1000, 500, tp=2, weight_dtype="fp8")
    assert found.batch == pytest.approx(room / (1500 * 163_840 / 2))
    assert found.gpus == 2 and found.per_gpu == found.estimate / 2 and found.tpot == found.batch / found.estimate


def test_regimes_follow_the_layout_and_the_format():
    dense = place("llama-3.1-8b", "b200", gpus=4, weight_dtype="nvfp4").decode(8, 100)
    assert dense.fp4 and not dense.group and not dense.experts  # four copies, each alone
    moe = place("deepseek-r1", "h200-sxm", gpus=8, weight_dtype="fp8").decode(8, 100)
    assert moe.experts and moe.group and moe.moved > 0  # copies that share their experts


def test_copies_share_experts_but_not_the_rest():
    one, eight = (place("qwen3-30b-a3b", "h200-sxm", gpus=n) for n in (1, 8))
    assert eight.ep and not one.ep
    # many tokens: each GPU reads an eighth of all experts and all of the rest
    experts, rest = 2 * 28_991_029_248, 2 * (30_532_122_624 - 28_991_029_248 - 311_164_928)
    step = eight.decode(8 * 10_000, 1, native=False)
    cache = 10_000 * 98_304
    assert step.read * 4.8e12 == pytest.approx(experts / 8 + rest + cache, rel=1e-3)


def test_experts_that_are_shared_out_cost_two_exchanges_a_layer():
    # 16 GPUs, TP 2 and eight copies of 10 tokens: each token goes to 6 experts in fp8 and comes back in bf16
    placed = place("deepseek-v2-lite", "gb200-nvl72", tp=2, gpus=16)
    step = placed.decode(80, 1000)
    all_reduces = 2 * 27 * 10 * 2048 * 2 / 900e9
    exchanges = 27 * (10 / 2) * 6 * 2048 * 3 * 15 / 16 / 900e9
    assert step.moved == pytest.approx(all_reduces + exchanges)
    assert step.waits == pytest.approx(2 * 27 * (6.6e-6 + 2 * 0.6e-6) + 2 * 27 * 6.6e-6)
    # every expert is chosen by some of 80 tokens: 1 - (1 - 6/64)^80
    experts = 2 * 14_394_851_328 * (1 - (1 - 6 / 64) ** 80) / 16
    rest = 2 * (15_706_484_224 - 14_394_851_328 - 209_715_200) / 2
    assert step.read * 8e12 == pytest.approx(experts + rest + 10 * 1000 * 27 * 576 * 2)


def test_stages_hand_the_stream_over():
    placed = place("llama-3.1-8b", "h100-sxm", pp=4)
    assert placed.decode(4, 100).moved == pytest.approx(3 * 1 * 4096 * 2 / 450e9)


def test_pipeline_of_two_reads_each_weight_once_per_part_and_waits_for_chunks():
    flat, deep = place("llama-3.1-70b", "h100-sxm", tp=8), place("llama-3.1-70b", "h100-sxm", tp=8, pp=2)
    assert deep.gpus == 16
    one, two = flat.decode(1, 1000, native=False), deep.decode(1, 1000, native=False)
    assert two.read == pytest.approx(one.read)  # a lone sequence passes both stages, one after the other
    many, halves = flat.decode(64, 100_000, native=False), deep.decode(64, 100_000, native=False)
    assert halves.read < many.read  # caches are shared out
    assert deep.prefill(3 * 8192).idle == 1 / 4  # (2 - 1) / (3 + 2 - 1)


def test_matrix_units_and_cache_formats():
    assert peak_unit(gpu("h100-sxm"), place("gpt2", "h100-sxm", weight_dtype="fp8").weights["other"]) == "fp8"
    hopper, blackwell, ampere = gpu("h200-sxm"), gpu("b200"), gpu("a100-80-sxm")
    four = place("gpt2", "b200", weight_dtype="mxfp4").weights["other"]
    assert peak_unit(blackwell, four) == "fp4"
    assert peak_unit(hopper, four) == "fp8" and peak_unit(hopper, four, native=True) == "bf16"
    assert [cache_format(card, four).name for card in (blackwell, hopper, ampere)] == ["fp8", "fp8", "bf16"]
    assert cache_format(hopper, place("gpt2", "b200", weight_dtype="int4").weights["other"]).name == "bf16"


# --- what must always hold


CARDS = st.sampled_from(["h100-sxm", "h200-sxm", "b200", "a100-80-sxm", "l40s"])
MODELS = st.sampled_from(["llama-3.1-8b", "gpt-oss-20b", "qwen3-next-80b-a3b", "gemma-3-27b", "deepseek-v2-lite"])


@given(MODELS, CARDS, st.integers(1, 500_000), st.integers(1, 2000))
@settings(deadline=None, max_examples=60)
def test_longer_and_fuller_steps_take_longer_and_serve_more(name, card, context, batch):
    def step(n, b):
        return decode_seconds(name, card, n, b)

    one = step(context, batch)
    assert one.ideal <= one.low <= one.estimate <= one.high
    assert one.ideal <= step(context + 1000, batch).ideal and one.estimate <= step(context + 1000, batch).estimate
    fuller = step(context, 2 * batch)
    assert one.ideal <= fuller.ideal and one.estimate <= fuller.estimate
    assert batch / one.ideal <= 2 * batch / fuller.ideal * (1 + 1e-9)


@given(MODELS, st.integers(1, 100_000), st.integers(1, 3000), st.floats(1, 3))
@settings(deadline=None, max_examples=40)
def test_a_better_card_is_never_slower(name, tokens_in, tokens_out, factor):
    card = replace(gpu("h200-sxm"), visible_bytes=300 * GB)
    best = replace(
        card,
        bandwidth=round(card.bandwidth * factor),
        flops={unit: round(rate * factor) for unit, rate in card.flops.items()},
    )
    more = replace(card, visible_bytes=round(300 * GB * factor))
    one, two, three = (throughput(name, c, tokens_in, tokens_out) for c in (card, best, more))
    assert one.ceiling <= two.ceiling * (1 + 1e-9) and one.estimate <= two.estimate * (1 + 1e-9)
    assert one.ceiling <= three.ceiling * (1 + 1e-9)
    assert 0 < one.low <= one.estimate <= one.high <= one.ceiling


@given(MODELS, st.integers(1, 5000), st.integers(1, 2000), st.integers(1, 400))
@settings(deadline=None, max_examples=40)
def test_more_requests_in_flight_raise_throughput_until_memory_is_full(name, tokens_in, tokens_out, concurrency):
    card = replace(gpu("h200-sxm"), visible_bytes=300 * GB)
    some, more, most = (throughput(name, card, tokens_in, tokens_out, concurrency=c) for c in (concurrency, 4000, None))
    assert some.ceiling <= more.ceiling * (1 + 1e-9) <= most.ceiling * (1 + 1e-8)
    assert some.batch <= min(concurrency, most.batch)
    assert more.batch <= min(4000, most.batch)


@pytest.mark.parametrize("tp", [1, 2, 4, 8])
def test_tensor_parallelism_lowers_the_floor_in_proportion_and_the_estimate_by_less(tp):
    one, many = (decode_seconds("llama-3.1-8b", "h100-sxm", 4096, 16, tp=n) for n in (1, tp))
    assert many.ideal == pytest.approx(one.ideal / tp)
    assert many.estimate >= one.estimate / tp


def test_copies_of_a_dense_model_multiply_throughput():
    one, four = (throughput("llama-3.1-8b", "h200-sxm", 500, 500, gpus=n, weight_dtype="fp8") for n in (1, 4))
    assert four.ceiling == pytest.approx(4 * one.ceiling)
    assert four.estimate == pytest.approx(4 * one.estimate, rel=0.02)  # runtime memory of a group is a little more


def test_gpus_default_to_one_copy():
    assert throughput("llama-3.1-8b", "h100-sxm", 100, 100, tp=4).gpus == 4


def test_arrays_give_what_scalars_give():
    contexts, batches = np.array([100, 100_000, 1]), np.array([1, 1, 4000])
    found = decode_seconds("gpt-oss-20b", "h100-sxm", contexts, batches)
    one = [decode_seconds("gpt-oss-20b", "h100-sxm", int(n), int(b)) for n, b in zip(contexts, batches, strict=True)]
    for field in ("ideal", "estimate", "low", "high"):
        assert getattr(found, field) == pytest.approx([getattr(item, field) for item in one])
    assert found.bound.tolist() == [item.bound for item in one] and len(set(found.bound)) == 2
    prompts = np.array([16, 4096])
    bounds = [prefill_seconds("llama-3.1-8b", "h100-sxm", int(n)) for n in prompts]
    assert prefill_seconds("llama-3.1-8b", "h100-sxm", prompts).estimate == pytest.approx([s.estimate for s in bounds])
    grid = throughput("llama-3.1-8b", "h100-sxm", np.array([[100], [1000]]), np.array([10, 100, 1000]))
    assert grid.ceiling.shape == (2, 3) and grid.bound.shape == (2, 3)
    assert grid.estimate[1, 2] == throughput("llama-3.1-8b", "h100-sxm", 1000, 1000).estimate


def test_a_step_reads_as_a_sentence():
    assert repr(prefill_seconds("llama-3.1-70b", "h100-sxm", 200_000, tp=8)).startswith("about ")
    assert "compute allows no less than 10.1 s" in repr(prefill_seconds("llama-3.1-70b", "h100-sxm", 200_000, tp=8))
    assert "memory allows at most" in repr(throughput("llama-3.1-8b", "h100-sxm", 100, 5000))


def test_scalars_need_no_numpy():
    code = (
        "import sys; sys.modules['numpy'] = None\n"
        "from kvlib.speed import decode_seconds, prefill_seconds, ridge, throughput\n"
        "print(ridge('h100-sxm') > 0, decode_seconds('llama-3.1-8b', 'h100-sxm', 100), \n"
        "prefill_seconds('deepseek-v3', 'h200-sxm', 100, tp=8), throughput('gpt-oss-20b', 'h100-sxm', 100, 100))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.startswith("True about"), done.stderr


STATE = Model("state only", (Recurrent(1000),), weights=(("attention", 10**6),), hidden_size=8)
BOUNDLESS = Model("no cache", (), weights=(("mlp", 10**6),))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: throughput("llama-9", "h100-sxm", 1, 1), "llama-9"),
        (lambda: throughput("llama-3.1-8b", "h1000", 1, 1), "gpu must be one of .*; got 'h1000'"),
        (lambda: throughput("llama-3.1-8b", "h100-sxm", 0, 1), "input_tokens must be a whole number, 1 or more; got 0"),
        (lambda: throughput("llama-3.1-8b", "h100-sxm", 1, -1), "output_tokens must be .*; got -1"),
        (lambda: throughput("llama-3.1-8b", "h100-sxm", 1, 1.5), "output_tokens must be .*; got 1.5"),
        (lambda: throughput("llama-3.1-8b", "h100-sxm", 1, 1, concurrency=0), "concurrency must be .*; got 0"),
        (lambda: throughput("llama-3.1-8b", "h100-sxm", 1, 1, tp=2, gpus=3), "gpus must be a multiple .* 2; got 3"),
        (lambda: throughput("llama-3.1-8b", "h100-sxm", 1, 1, tp=0), "tp must be a whole number, 1 or more; got 0"),
        (lambda: throughput("llama-3.1-8b", "h100-sxm", 1, 1, tp=3), "tp, pp and gpus .* got tp=3, .* query heads"),
        (lambda: throughput("llama-3.1-8b", "h100-sxm", 1, 1, tp=16), "does not fit into one domain of 8"),
        (lambda: throughput("llama-3.1-70b", "h100-sxm", 1, 1), "must fit into memory .*; got 1 and 1 on 1 x h100-sxm"),
        (lambda: throughput("llama-3.1-8b", "h100-sxm", 10**6, 1), "hold 0.53 of one"),
        (lambda: throughput("llama-3.1-8b", "mi455x", 1, 1, gpus=2), "gpus must be 1 on mi455x, .*; got 2"),
        (lambda: throughput(BOUNDLESS, "h100-sxm", 1, 1), "model must be a kvlib Model with layers"),
        (lambda: throughput("llama-3.1-8b", "h100-sxm", 1, 1, weight_dtype="fp7"), "weight_dtype must .*; got 'fp7'"),
        (lambda: throughput("llama-3.1-8b", "h100-sxm", 1, 1, kv_dtype="fp7"), "kv_dtype must be one of .*; got 'fp7'"),
        (
            lambda: decode_seconds("llama-3.1-8b", "h100-sxm", 1, compute="fp4"),
            "compute must be one of bf16, fp8, int8",
        ),
        (lambda: decode_seconds("llama-3.1-8b", "h100-sxm", 0), "context must be a whole number, 1 or more; got 0"),
        (lambda: decode_seconds("llama-3.1-8b", "h100-sxm", 1, math.nan), "batch must be .*; got nan"),
        (lambda: prefill_seconds("llama-3.1-8b", "h100-sxm", math.inf), "tokens must be .*; got inf"),
        (lambda: prefill_seconds("llama-3.1-8b", "h100-sxm", 5, cached=-1), "cached must be .*; got -1"),
        (lambda: prefill_seconds("llama-3.1-8b", "h100-sxm", 5, pp=99), "PP 99 is more than the 32 layers"),
        (lambda: ridge("h100-sxm", "fp7"), "dtype must be one of .*; got 'fp7'"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_model_of_states_fills_memory_too():
    assert throughput(STATE, "h100-sxm", 10, 10).batch > 1000
