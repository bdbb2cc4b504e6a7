"""Exercise 04's checks: right answers pass in any form, and every usual mistake is caught and called by its name.

The wrong answers stand here once more, written apart from the checks, so that a slip in a check shows.
"""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

import kvlib as kv
from kvlib.check import ex04
from kvlib.check.ex04 import counted, designs, reading, timing
from kvlib.flops import decode_flops, prefill_flops
from kvlib.links import all_reduce_seconds
from kvlib.traffic import expert_coverage, weights_read
from tests.check import exercise_pages as pages

F = Fraction
GiB, MiB = 2**30, 2**20
QUESTIONS = pages.questions(ex04)


def coverage(n, k, batch):
    return 1 - (1 - F(k, n)) ** batch


def sent(t, w, n, g):
    return F(8 * n * t * w * (g - 1), g)


def flops(weights, n, h, d, t):
    return 2 * weights * t + 2 * n * h * d * t * (t + 1)


def ms(work, peak):
    return F(work) / (peak * 10**9)


RIGHT = {
    "ridge_batch": lambda printed, speed, bits: F(printed * 1000) / speed * F(bits) / 32,
    "step_bytes": lambda w, kv_, context, batch: w + kv_ * context * batch,
    "expert_bytes": lambda s, e, n, k, batch: s + n * coverage(n, k, batch) * e,
    "first_token_ms": lambda total, active, n, h, d, t, peak: ms(flops(active, n, h, d, t), peak),
    "all_reduce_ms": lambda t, w, n, g, link: sent(t, w, n, g) / (link * 10**6) * 2,
    "request_ms": lambda p, o, speed, step: F(p * 1000, speed) + (o - 1) * step,
    "users_at_speed": lambda w, c, speed, step: (speed * 10**6 * step - w * GiB) // (c * MiB),
}
WRONG = {
    "ridge_batch": {
        "sparsity FLOPs": lambda p, s, bits: F(p * 1000) / s * F(bits) / 16,
        "a number for a byte": lambda p, s, bits: F(p * 1000) / s / 4,
        "FLOPs per byte": lambda p, s, bits: F(p * 500) / s,
        "bits for bytes": lambda p, s, bits: F(p * 1000) / s * F(bits) / 4,
    },
    "step_bytes": {
        "weights read per sequence": lambda w, k, c, b: (w + k * c) * b,
        "KV forgotten": lambda w, k, c, b: w,
        "one cache for all": lambda w, k, c, b: w + k * c,
        "the newest token only": lambda w, k, c, b: w + k * b,
        "weights forgotten": lambda w, k, c, b: k * c * b,
        "cache read and written": lambda w, k, c, b: w + 2 * k * c * b,
    },
    "expert_bytes": {
        "total for active": lambda s, e, n, k, b: s + n * e,
        "active for every batch": lambda s, e, n, k, b: s + k * e,
        "every choice a new expert": lambda s, e, n, k, b: s + b * k * e,
        "shared part forgotten": lambda s, e, n, k, b: n * coverage(n, k, b) * e,
        "one choice a token": lambda s, e, n, k, b: s + n * coverage(n, 1, b) * e,
    },
    "first_token_ms": {
        "total for active": lambda total, a, n, h, d, t, peak: ms(flops(total, n, h, d, t), peak),
        "attention forgotten": lambda total, a, n, h, d, t, peak: ms(2 * a * t, peak),
        "attention not causal": lambda total, a, n, h, d, t, peak: ms(2 * a * t + 4 * n * h * d * t * t, peak),
        "half a square": lambda total, a, n, h, d, t, peak: ms(2 * a * t + 2 * n * h * d * t * t, peak),
        "scores only": lambda total, a, n, h, d, t, peak: ms(2 * a * t + n * h * d * t * (t + 1), peak),
        "multiply-adds for FLOPs": lambda total, a, n, h, d, t, peak: ms(flops(a, n, h, d, t), peak) / 2,
        "one token only": lambda total, a, n, h, d, t, peak: ms(2 * a + 4 * n * h * d * t, peak),
        "prefill free": lambda *inputs: 0,
    },
    "all_reduce_ms": {
        "bidirectional link figure": lambda t, w, n, g, link: sent(t, w, n, g) / (link * 10**6),
        "the whole message twice": lambda t, w, n, g, link: F(16 * n * t * w, link * 10**6),
        "everything to everybody": lambda t, w, n, g, link: F(8 * n * (g - 1) * t * w, link * 10**6),
    },
    "request_ms": {
        "prefill free": lambda p, o, speed, step: (o - 1) * step,
        "the first token twice": lambda p, o, speed, step: F(p * 1000, speed) + o * step,
        "decode free": lambda p, o, speed, step: F(p * 1000, speed),
        "reading at the speed of writing": lambda p, o, speed, step: (p + o - 1) * step,
        "writing at the speed of reading": lambda p, o, speed, step: F((p + o) * 1000, speed),
        "seconds and milliseconds": lambda p, o, speed, step: F(p, speed) + (o - 1) * step,
    },
    "users_at_speed": {
        "GB for GiB": lambda w, c, speed, step: (speed * step * 10**6 - w * 10**9) // (c * 10**6),
        "weights read per sequence": lambda w, c, speed, step: speed * step * 10**6 // (w * GiB + c * MiB),
        "weights forgotten": lambda w, c, speed, step: speed * step * 10**6 // (c * MiB),
        "rounded up": lambda w, c, speed, step: (speed * step * 10**6 - w * GiB) // (c * MiB) + 1,
        "a part of a user": lambda w, c, speed, step: F(speed * step * 10**6 - w * GiB, c * MiB),
    },
}
ALSO_WRONG = [
    ("request_ms", "prefill free", lambda p, o, speed, step: o * step),
    ("expert_bytes", "every choice a new expert", lambda s, e, n, k, b: s + min(n, k * b) * e),
    ("users_at_speed", "GB for GiB", lambda w, c, speed, step: (speed * step * GiB // 1000 - w * GiB) // (c * MiB)),
    ("all_reduce_ms", "bidirectional link figure", lambda t, w, n, g, link: sent(t, w, n, g) * 2 / (2 * link * 10**6)),
]
EVERY_WRONG = pages.every_mistake(WRONG, ALSO_WRONG)
SOLVED = {"tp": 4, "pp": 3, "dp": 1}


def run(name, function):
    return getattr(ex04, name)(function)


# ---------------------------------------------------------------- right answers


@pytest.mark.parametrize("name", RIGHT)
@pages.in_each_form("float", "float64", "0-d array", "Fraction", "rounding error")
def test_a_right_answer_passes_in_any_form(name, form):
    pages.assert_right(run(name, lambda *inputs: form(RIGHT[name](*inputs))), name)


@pytest.mark.parametrize("name", ["step_bytes", "users_at_speed"])
@pytest.mark.parametrize("form", [int, np.int64, Decimal])
def test_a_whole_answer_may_be_any_whole_number(name, form):
    assert run(name, lambda *inputs: form(RIGHT[name](*inputs))).ok


# ---------------------------------------------------------------- the truth itself


@pytest.mark.parametrize(
    ("case", "name", "format_"), [(0, "h100-sxm", "bf16"), (1, "h100-sxm", "fp8"), (2, "h20", "bf16")]
)
def test_the_ridge_is_that_of_the_dense_peak(case, name, format_):
    inputs = timing.RIDGE_BATCH.cases[case].inputs
    card = kv.gpu(name)
    assert card.bandwidth == inputs["bandwidth_gb"] * 10**9
    assert card.flops[format_] == pytest.approx(inputs["printed_tflops"] / 2 * 10**12, rel=1e-3)
    dense = card.flops[format_] / card.bandwidth * inputs["bits"] / 16
    assert float(counted.ridge_batch(**inputs)) == pytest.approx(dense, rel=1e-3)


def test_the_weights_of_a_step_are_those_that_kvlib_reads():
    assert weights_read(kv.model("llama-3.1-8b"), 1) == reading.LLAMA_8B
    assert weights_read(kv.model("llama-3.1-70b"), 1, "fp8") == reading.LLAMA_70B_FP8
    for case, name in zip(reading.STEP_BYTES.cases, ("llama-3.1-8b",) * 3 + ("llama-3.1-70b",), strict=True):
        stored = "fp8" if name == "llama-3.1-70b" else "bf16"
        assert kv.model(name).growth(stored) == case.inputs["kv_per_token"]


def test_the_experts_are_those_of_deepseek_and_the_coverage_that_of_kvlib():
    weights = dict(kv.model("deepseek-v3").weights)
    assert weights["experts"] == 256 * reading.V3_EXPERT
    assert kv.model("deepseek-v3").parameters - weights["experts"] - weights["embedding"] == reading.V3_SHARED
    for case in reading.EXPERT_BYTES.cases:
        n, k, batch = (case.inputs[key] for key in ("experts", "per_token", "batch"))
        assert float(counted.read_share(n, k, batch)) == pytest.approx(expert_coverage(n, k, batch))
    batch_8 = reading.EXPERT_BYTES.cases[1].inputs
    whole = weights_read(kv.model("deepseek-v3"), 8, "fp8")
    assert float(counted.expert_bytes(**batch_8)) == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize(("case", "name"), [(0, "llama-3.1-8b"), (1, "llama-3.1-8b"), (2, "qwen3-30b-a3b")])
def test_the_prompts_are_those_of_the_models(case, name):
    total, active, layers, heads, head_dim, tokens, peak = timing.FIRST_TOKEN_MS.cases[case].inputs.values()
    m = kv.model(name)
    assert (m.parameters, m.active_parameters, len(m.layers), m.query_heads) == (total, active, layers, heads)
    assert {layer.key_dim for layer in m.layers} == {head_dim}
    # kvlib leaves the embedding out, which is looked up, and computes the logits of the last token only.
    less = prefill_flops(m, tokens) / (peak * 10**9)
    assert less < float(counted.first_token_ms(total, active, layers, heads, head_dim, tokens, peak)) < 1.2 * less
    assert decode_flops(m, 1) < 2 * active


def test_the_all_reduces_are_those_of_the_ring_of_kvlib():
    for case in timing.ALL_REDUCE_MS.cases:
        tokens, width, layers, gpus, link = case.inputs.values()
        one = all_reduce_seconds(2 * tokens * width, gpus, link * 10**9 / 2, latency=False)
        assert float(counted.all_reduce_ms(**case.inputs)) == pytest.approx(2 * layers * one * 1000)
    for name, link in (("h100-sxm", 900), ("l40s", 64), ("b200", 1_800)):
        assert kv.gpu(name).link.both_directions == link * 10**9


# ---------------------------------------------------------------- mistakes are named


@pages.for_each_mistake(EVERY_WRONG)
def test_a_usual_mistake_is_caught_and_named(name, mistake, function):
    pages.assert_named(run(name, function), QUESTIONS[name], mistake, besides="never below zero")


def test_no_listed_mistake_goes_without_a_wrong_answer():
    listed = {name: {slip.name for slip in question.slips} for name, question in QUESTIONS.items()}
    assert listed == {name: set(wrong) for name, wrong in WRONG.items()}


def test_different_mistakes_give_different_answers_somewhere():
    pages.assert_answers_differ(QUESTIONS, RIGHT, WRONG)


def test_a_line_shows_the_answer_the_truth_and_the_reason():
    result = run("ridge_batch", WRONG["ridge_batch"]["sparsity FLOPs"])
    assert result.lines[0] == "ridge_batch: not yet, 0 of 4 cases"
    assert result.lines[1] == (
        "  wrong  H100 in bf16: 590.746 sequences, not 295.373: the printed figure assumes that half of the weights "
        "are zero; dense, it is half (or is it the 2 FLOPs?)"
    )


def test_milliseconds_in_seconds_are_seen_as_a_factor():
    result = run("request_ms", lambda *inputs: RIGHT["request_ms"](*inputs) / 1000)
    assert "Every wrong answer is 1/1000 of the right one" in result.lines[-1]


# ---------------------------------------------------------------- the two designs


def test_the_target_is_the_least_that_the_rules_allow():
    passing = [design for design in pages.layouts(24) if ex04.forty_tokens(lambda design=design: design).ok]
    assert SOLVED in passing
    assert {designs.cards(design) for design in passing} == {designs.TARGET}


def test_the_puzzle_is_about_the_published_model():
    m = kv.model("llama-3.1-70b")
    weights = dict(m.weights)
    assert (len(m.layers), m.query_heads) == (designs.LAYERS, designs.HEADS)
    assert weights["embedding"] == weights["head"] == designs.END
    assert weights["attention"] + weights["mlp"] == designs.LAYERS * designs.LAYER
    assert m.cache_bytes(8_192, "fp8") == designs.CACHE
    assert kv.gpu("h100-sxm").bandwidth * 0.6 == designs.SPEED


@pytest.mark.parametrize("form", [int, float, np.int64, Fraction])
def test_the_solved_layout_passes_in_any_form(form):
    pages.assert_passes(ex04.forty_tokens, {key: form(value) for key, value in SOLVED.items()}, rules=4)


@pytest.mark.parametrize(
    ("design", "mistake", "says"),
    [
        ((8, 1, 1), "caches take too long", "a token takes 25.7 ms, 25 are promised, of which the caches take 21.4"),
        ((1, 12, 1), "TP too small", "at TP 1 the weights alone take 34.6, however many stages or copies there are"),
        ((2, 6, 1), "caches take too long", "a token takes 31.6 ms"),
        ((8, 2, 1), "too many cards", "it is fast enough, on 16 cards: 4 more than needed"),
        ((4, 1, 1), "does not fit", "the fullest card would hold 104 GB (96.4 GiB) and has room for 71.2 GB"),
        ((16, 1, 1), "TP beyond the node", "TP 16 is larger than a node of 8 cards"),
        ((3, 3, 1), "TP does not divide the heads", "TP 3 does not divide 64 query heads"),
    ],
)
def test_a_layout_that_breaks_a_rule_is_told_which(design, mistake, says):
    pages.assert_told(ex04.forty_tokens, dict(zip(("tp", "pp", "dp"), design, strict=True)), mistake, says)


@pytest.mark.parametrize("change", [{"context": 1_200_000}, {"batch": 1_024}])
def test_the_batching_can_be_broken_in_several_ways(change):
    pages.assert_passes(ex04.broken_batching, designs.LLAMA_FOR_ONE | change, rules=2)


@pytest.mark.parametrize(
    ("change", "mistake", "says"),
    [
        ({}, "nothing changed", "there the second user is nearly free"),
        ({"context": 9, "batch": 2}, "more than one change", "you changed context, batch"),
        ({"batch": 8}, "still shared", "a batch of 8 reads 17.1 GB (16 GiB), of 16 19.3 GB (18 GiB): 1.13 times"),
        ({"weights_gb": 1}, "still shared", "1.21 times as much"),
        ({"kv_per_token": 4_718_592}, "still shared", "1.39 times as much"),
    ],
)
def test_a_rule_that_is_not_broken_is_explained(change, mistake, says):
    pages.assert_told(ex04.broken_batching, designs.LLAMA_FOR_ONE | change, mistake, says)


# ---------------------------------------------------------------- what a notebook shows


def every_result():
    yield from pages.all_answers(run, RIGHT, EVERY_WRONG)
    for design in pages.layouts(12):
        yield ex04.forty_tokens(lambda design=design: design)


def test_results_are_short_deterministic_text_without_code_of_the_answer():
    pages.assert_short_text_without_code(every_result)
