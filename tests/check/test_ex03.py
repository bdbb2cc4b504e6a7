"""Exercise 03's checks: right answers pass in any form, and every usual mistake is caught and called by its name.

The wrong answers stand here once more, written apart from the checks, so that a slip in a check shows.
"""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

import kvlib as kv
from kvlib.check import ex03
from kvlib.check.ex03 import counted, designs, rooms, shares
from kvlib.cluster import plan, size_cluster
from kvlib.shards import cuts
from tests.check import exercise_pages as pages

GiB = 2**30
QUESTIONS = pages.questions(ex03)


def latent(n, rank, rope):
    return 2 * n * (rank + rope)


RIGHT = {
    "token_on_gpu": lambda n, kv_heads, d, tp: 4 * n * -(-kv_heads // tp) * d,
    "latent_tokens": lambda free, n, rank, rope, tp, dcp: free // latent(n, rank, rope) * dcp,
    "cache_room": lambda g, label, seen, u, w, other, a: g * (seen * u // 100 - other - a) - w,
    "stage_bytes": lambda n, pp, tp, kv_heads, d, t: math.ceil(n / pp) * max(kv_heads // tp, 1) * 4 * d * t,
    "users_that_fit": lambda g, room, w, c: (g * room - w) // c,
    "expert_weights": lambda shared, expert, n, spare, ep: shared + (n + spare) * expert // ep,
}

WRONG = {
    "token_on_gpu": {
        "zero heads": lambda n, k, d, tp: 2 * n * (k // tp) * d * 2,
        "a part of a head": lambda n, k, d, tp: 2 * n * k * d * 2 / tp,
        "TP ignored": lambda n, k, d, tp: 2 * n * k * d * 2,
        "one head always": lambda n, k, d, tp: 2 * n * d * 2,
        "all GPUs together": lambda n, k, d, tp: tp * RIGHT["token_on_gpu"](n, k, d, tp),
        "K without V": lambda n, k, d, tp: RIGHT["token_on_gpu"](n, k, d, tp) // 2,
        "layers divided": lambda n, k, d, tp: RIGHT["token_on_gpu"](n, k, d, tp) / tp,
    },
    "latent_tokens": {
        "latent divided by TP": lambda free, n, rank, rope, tp, dcp: free // (latent(n, rank, rope) / tp),
        "DCP ignored": lambda free, n, rank, rope, tp, dcp: free // latent(n, rank, rope),
        "TP times DCP": lambda free, n, rank, rope, tp, dcp: free // latent(n, rank, rope) * dcp * tp,
        "MLA doubled for K and V": lambda free, n, rank, rope, tp, dcp: free // (2 * latent(n, rank, rope)) * dcp,
        "MLA without its rope part": lambda free, n, rank, rope, tp, dcp: free // latent(n, rank, 0) * dcp,
        "numbers for bytes": lambda free, n, rank, rope, tp, dcp: free // (n * (rank + rope)) * dcp,
        "a token in pieces": lambda free, n, rank, rope, tp, dcp: free * dcp // latent(n, rank, rope),
        "a part of a token": lambda free, n, rank, rope, tp, dcp: free * dcp / latent(n, rank, rope),
    },
    "cache_room": {
        "not repaired": lambda g, label, seen, u, w, n, a: g * label * 1024 * u / 100 - w - g * n - a,
        "label for memory": lambda g, label, seen, u, w, n, a: g * (label * 1024 * u / 100 - n - a) - w,
        "activation once": lambda g, label, seen, u, w, n, a: g * (seen * u / 100 - n) - w - a,
        "non-torch once": lambda g, label, seen, u, w, n, a: g * (seen * u / 100 - a) - w - n,
        "overhead once": lambda g, label, seen, u, w, n, a: g * seen * u / 100 - w - n - a,
        "weights on every GPU": lambda g, label, seen, u, w, n, a: g * (seen * u / 100 - n - a - w),
        "utilisation forgotten": lambda g, label, seen, u, w, n, a: g * (seen - n - a) - w,
        "utilisation of the rest": lambda g, label, seen, u, w, n, a: (g * (seen - n - a) - w) * u / 100,
        "one GPU only": lambda g, label, seen, u, w, n, a: RIGHT["cache_room"](g, label, seen, u, w, n, a) / g,
    },
    "stage_bytes": {
        "all layers on every stage": lambda n, pp, tp, k, d, t: RIGHT["stage_bytes"](n, 1, tp, k, d, t),
        "a fraction of a layer": lambda n, pp, tp, k, d, t: RIGHT["stage_bytes"](n, 1, tp, k, d, t) / pp,
        "layers rounded down": lambda n, pp, tp, k, d, t: n // pp * RIGHT["stage_bytes"](1, 1, tp, k, d, t),
        "TP ignored": lambda n, pp, tp, k, d, t: RIGHT["stage_bytes"](n, pp, 1, k, d, t),
        "a part of a head": lambda n, pp, tp, k, d, t: RIGHT["stage_bytes"](n, pp, 1, k, d, t) / tp,
        "zero heads": lambda n, pp, tp, k, d, t: -(-n // pp) * (k // tp) * 4 * d * t,
        "K without V": lambda n, pp, tp, k, d, t: RIGHT["stage_bytes"](n, pp, tp, k, d, t) / 2,
        "PP divides heads too": lambda n, pp, tp, k, d, t: RIGHT["stage_bytes"](n, pp, tp * pp, k, d, t),
    },
    "users_that_fit": {
        "weights for every user": lambda g, room, w, c: g * room // (w + c),
        "weights on every card": lambda g, room, w, c: (room - w) * g // c,
        "weights forgotten": lambda g, room, w, c: g * room // c,
        "one card only": lambda g, room, w, c: int((room - w / g) / c),
        "a card for each user": lambda g, room, w, c: g * int((room - w / g) / c),
        "rounded up": lambda g, room, w, c: -((w - g * room) // c),
        "rounded to the nearest": lambda g, room, w, c: round((g * room - w) / c),
        "a part of a user": lambda g, room, w, c: (g * room - w) / c,
    },
    "expert_weights": {
        "everything divided": lambda shared, expert, n, spare, ep: (shared + (n + spare) * expert) / ep,
        "nothing divided": lambda shared, expert, n, spare, ep: shared + (n + spare) * expert,
        "spare experts forgotten": lambda shared, expert, n, spare, ep: shared + n * expert / ep,
        "everything but experts forgotten": lambda shared, expert, n, spare, ep: (n + spare) * expert // ep,
        "one expert each": lambda shared, expert, n, spare, ep: shared + expert,
    },
}
# The same mistake in another form.
ALSO_WRONG = [
    ("latent_tokens", "latent divided by TP", lambda free, n, rank, rope, tp, dcp: free // latent(n, rank, rope) * tp),
    (
        "cache_room",
        "label for memory",
        lambda g, label, seen, u, w, n, a: g * (label * 10**9 / 2**20 * u / 100 - n - a) - w,
    ),
]
EVERY_WRONG = pages.every_mistake(WRONG, ALSO_WRONG)
SOLVED = {"tp": 2, "pp": 5, "dp": 1}


def run(name, function):
    return getattr(ex03, name)(function)


# ---------------------------------------------------------------- right answers


@pytest.mark.parametrize("name", RIGHT)
@pages.in_each_form(*pages.WHOLE_FORMS)
def test_a_right_answer_passes_in_any_form(name, form):
    pages.assert_right(run(name, lambda *inputs: form(RIGHT[name](*inputs))), name)


# ---------------------------------------------------------------- the truth itself


def test_heads_are_dealt_out_as_the_layers_of_kvlib_do():
    for kv_heads, tp in itertools.product((1, 2, 4, 8, 32), (1, 2, 4, 8, 16)):
        hands = counted.heads_on_gpus(kv_heads, tp)
        assert len(hands) == tp
        assert max(hands) * 2 * 128 == kv.Full(kv_heads, 128, 128).growth_elements(tp)


def test_layers_are_dealt_out_as_evenly_as_engines_do():
    for layers, pp in ((126, 4), (94, 5), (48, 2), (10, 4), (61, 8)):
        bounds = cuts(layers, pp)
        assert max(counted.layers_of_stages(layers, pp)) == max(b - a for a, b in itertools.pairwise(bounds))
        assert sum(counted.layers_of_stages(layers, pp)) == layers


@pytest.mark.parametrize(
    ("label", "name", "tp"),
    [
        ("Llama 3.1 70B on 8 GPUs", "llama-3.1-70b", 8),
        ("Llama 3.1 70B on 2 GPUs", "llama-3.1-70b", 2),
        ("Qwen3 235B-A22B on 4 GPUs", "qwen3-235b-a22b", 4),
        ("Qwen3 235B-A22B on 8 GPUs", "qwen3-235b-a22b", 8),
        ("Falcon 7B on 1 GPU", "falcon-7b", 1),
    ],
)
def test_a_named_model_is_the_published_one(label, name, tp):
    case = next(case for case in shares.TOKEN_ON_GPU.cases if case.label == label)
    assert counted.token_on_gpu(**case.inputs) == kv.model(name).growth("bf16", tp=tp)


@pytest.mark.parametrize(
    ("case", "name"),
    [(0, "qwen3-30b-a3b"), (1, "llama-3.1-405b"), (2, "qwen3-235b-a22b"), (3, "llama-3.1-8b")],
)
def test_a_stage_is_what_the_planner_of_kvlib_counts(case, name):
    layers, pp, tp, _, _, tokens = shares.STAGE_BYTES.cases[case].inputs.values()
    judged = plan(name, tokens, 1, "h200-sxm", tp=tp, pp=pp)
    fullest = max(b - a for a, b in itertools.pairwise(cuts(layers, pp)))
    held = cuts(layers, pp)[judged.per_gpu.stage + 1] - cuts(layers, pp)[judged.per_gpu.stage]
    assert judged.per_gpu.kv_cache * fullest == counted.stage_bytes(**shares.STAGE_BYTES.cases[case].inputs) * held


def test_the_room_of_a_log_is_the_printed_one():
    """llm-d-planner's table: 32.00 and 51.38 GiB on each card. The GLM log: 81.79 GiB."""
    for case, printed in zip(rooms.CACHE_ROOM.cases, (32.00, 51.38, 81.79), strict=False):
        see = rooms.CACHE_ROOM.truth(**case.inputs) / case.inputs["gpus"] / 1024
        assert see == pytest.approx(printed, abs=0.015)


def test_the_users_are_those_of_the_published_arithmetic():
    assert [counted.users_that_fit(**case.inputs) for case in rooms.USERS_THAT_FIT.cases[:3]] == [17, 3, 426]
    assert int(0.92 * kv.gpu("h100-sxm").visible_bytes) == rooms.CARD_GB
    assert kv.model("llama-3.1-70b").weight_bytes("fp8") == rooms.LLAMA_70B_FP8
    assert kv.model("llama-3.1-8b").weight_bytes() == rooms.USERS_THAT_FIT.cases[3].inputs["weights"]
    for case, tokens in zip(rooms.USERS_THAT_FIT.cases, (200_000, 1_000_000, 8_000), strict=False):
        assert kv.model("llama-3.1-70b").cache_bytes(tokens, "fp8") == case.inputs["cache"]


def test_the_experts_are_those_of_deepseek():
    weights = dict(kv.model("deepseek-v3").weights)
    assert weights["experts"] == 256 * rooms.V3_EXPERT
    assert kv.model("deepseek-v3").parameters - weights["experts"] == rooms.V3_SHARED
    held = [counted.expert_weights(**case.inputs) for case in rooms.EXPERT_WEIGHTS.cases[:3]]
    assert [(n - rooms.V3_SHARED) // rooms.V3_EXPERT for n in held] == [32, 9, 2]


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
    result = run("token_on_gpu", WRONG["token_on_gpu"]["zero heads"])
    assert result.lines[0] == "token_on_gpu: not yet, 4 of 6 cases"
    assert result.lines[4] == (
        "  wrong  Qwen3 235B-A22B on 8 GPUs: 0 bytes, not 48,128: 4 heads on 8 GPUs rounded down to none; "
        "a GPU without a key cannot attend, so it gets a copy"
    )


# ---------------------------------------------------------------- the two designs


def test_the_target_is_the_least_that_the_rules_allow():
    passing = [design for design in pages.layouts(24) if ex03.sixty_four_users(lambda design=design: design).ok]
    assert SOLVED in passing
    assert {design["tp"] * design["pp"] * design["dp"] for design in passing} == {designs.TARGET}
    assert all(design["dp"] == 1 for design in passing)


def test_the_planner_of_kvlib_finds_as_few_cards_on_its_own_counts():
    best = size_cluster("qwen3-235b-a22b", counted.CONTEXT, counted.USERS, "h100-sxm", "fp8").best
    assert best.gpus == designs.TARGET


def test_the_puzzle_is_about_the_published_model():
    m = kv.model("qwen3-235b-a22b")
    weights = dict(m.weights)
    assert (len(m.layers), m.query_heads) == (counted.LAYERS, counted.QUERY_HEADS)
    assert set(m.layers) == {kv.Full(counted.KV_HEADS, counted.HEAD_DIM, counted.HEAD_DIM)}
    assert weights["embedding"] == weights["head"] == pytest.approx(counted.END_WEIGHTS, rel=1e-3)
    layer = (m.parameters - 2 * weights["embedding"]) / counted.LAYERS
    assert layer == pytest.approx(counted.LAYER_WEIGHTS, rel=1e-3)
    assert kv.gpu("h100-sxm").visible_bytes == counted.VISIBLE_MIB * 2**20


@pytest.mark.parametrize("form", [int, float, np.int64, Fraction])
def test_the_solved_layout_passes_in_any_form(form):
    pages.assert_passes(ex03.sixty_four_users, {key: form(value) for key, value in SOLVED.items()}, rules=4)


@pytest.mark.parametrize(
    ("design", "mistake", "says"),
    [
        ((8, 1, 1), "KV heads copied", "the fullest card would hold 130 GB (121 GiB) and has room for 71.2 GB"),
        ((8, 2, 1), "KV heads copied", "it fits, on 16 cards: 6 more than needed; at TP 8 each card keeps one of 4"),
        ((4, 1, 2), "weights copied", "DP 2 keeps the weights 2 times"),
        ((2, 4, 2), "weights copied", "it fits, on 16 cards: 6 more than needed; DP 2 keeps the weights 2 times"),
        ((4, 2, 1), "does not fit", "the fullest card would hold 79.9 GB (74.4 GiB) and has room for 71.2 GB"),
        ((4, 3, 1), "too many cards", "it fits, on 12 cards: 2 more than needed"),
        ((16, 1, 1), "TP beyond the node", "TP 16 is larger than a node of 8 cards"),
        ((3, 3, 1), "TP does not divide the heads", "TP 3 does not divide 64 query heads"),
    ],
)
def test_a_layout_that_breaks_a_rule_is_told_which(design, mistake, says):
    pages.assert_told(ex03.sixty_four_users, dict(zip(("tp", "pp", "dp"), design, strict=True)), mistake, says)


@pytest.mark.parametrize("change", [{"kv_heads": 1}, {"kv_heads": 2}, {"tp": 8}, {"tp": 16}])
def test_the_halving_can_be_broken_in_several_ways(change):
    pages.assert_passes(ex03.broken_halving, designs.LLAMA_ON_TWO | change, rules=4)


@pytest.mark.parametrize(
    ("change", "mistake", "says"),
    [
        ({}, "nothing changed", "there the rule holds"),
        ({"kv_heads": 1, "tp": 1}, "more than one change", "you changed kv_heads, tp"),
        ({"kv_heads": 3}, "unequal groups", "32 query heads cannot share 3 KV heads"),
        ({"tp": 3}, "TP does not divide the heads", "3 GPUs cannot share 32 query heads evenly"),
        ({"tp": 32}, "TP does not divide the heads", "64 GPUs cannot share 32 query heads evenly"),
        ({"kv_heads": 4}, "still halved", "a token takes 1,024 bytes per layer on each of 2 GPUs, 512 on each of"),
        ({"head_dim": 64}, "still halved", "a token takes 1,024 bytes per layer on each of 2 GPUs"),
    ],
)
def test_a_rule_that_is_not_broken_is_explained(change, mistake, says):
    pages.assert_told(ex03.broken_halving, designs.LLAMA_ON_TWO | change, mistake, says)


def test_kv_heads_that_do_not_share_are_refused():
    strange = {"query_heads": 24, "kv_heads": 8, "head_dim": 128, "tp": 2}
    assert ex03.broken_halving(lambda: strange).mistake == "still halved"
    result = designs._engine_starts({"query_heads": 24, "kv_heads": 3, "head_dim": 128, "tp": 4})
    assert result == ("TP does not divide the heads", "4 GPUs cannot share 3 KV heads evenly")


# ---------------------------------------------------------------- what a notebook shows


def every_result():
    yield from pages.all_answers(run, RIGHT, EVERY_WRONG)
    for design in pages.layouts(10):
        yield ex03.sixty_four_users(lambda design=design: design)


def test_results_are_short_deterministic_text_without_code_of_the_answer():
    pages.assert_short_text_without_code(every_result)
