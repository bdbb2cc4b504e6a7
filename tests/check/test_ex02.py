"""Exercise 02's checks: right answers pass in any form, and every usual mistake is caught and called by its name.

The wrong answers stand here once more, written apart from the checks, so that a slip in a check shows.
"""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

import kvlib as kv
from kvlib.check import ex02
from kvlib.check.ex02 import blocks, card, counted, published, service
from kvlib.memory import budget
from kvlib.model import Full, Latent, Model
from kvlib.pages import entry_bytes
from kvlib.public_logs import startup
from tests.check import exercise_pages as pages

MiB, GiB, GB = 2**20, 2**30, 10**9
QUESTIONS = pages.questions(ex02)


def token(layers, kv_heads, head_dim, bits):
    return layers * kv_heads * head_dim * bits // 4


def pooled(mib, each, block=16):
    return mib * MiB // (block * each) * block


def serve(server, card_bytes, bits, block=16, percent=None, weights=None):
    percent = server["percent"] if percent is None else percent
    weights = server["weights_mib"] if weights is None else weights
    room = Fraction(card_bytes * percent, 100) - (weights + server["other_mib"]) * MiB
    return int(room // (block * server["numbers_per_token"] * bits // 8)) * block


def entry(rank, rope, indexer):
    return rank + rank // 32 + 2 * rope + indexer + indexer // 32


def printed(n, g, b, per, length, minor):
    return n * length // per if minor > 20 else n // g * b


def up(state, page):
    return 16 * math.ceil(Fraction(state, 16 * page))


RIGHT = {
    "shown_bytes": lambda label, mib: mib * MiB,
    "room_for_cache": lambda t, p, w, tp, n, a: t * p // 100 - w // tp - n - a,
    "pool_tokens": lambda mib, *shape: pooled(mib, token(*shape)),
    "repaired_server": lambda s: serve(s, s["visible_mib"] * MiB, s["kv_bits"]),
    "repaired_entry": lambda n, r, p, i, tp: n * entry(r, p, i),
    "hybrid_block": lambda state, h, d, bits: up(state, h * d * bits // 4),
    "printed_tokens": printed,
}
WRONG = {
    "shown_bytes": {
        "label in GB": lambda label, mib: label * GB,
        "label in GiB": lambda label, mib: label * GiB,
        "MB for MiB": lambda label, mib: mib * 1_000_000,
        "KiB for MiB": lambda label, mib: mib * 1_024,
        "GiB for MiB": lambda label, mib: mib * GiB,
        "bits for bytes": lambda label, mib: mib * MiB * 8,
    },
    "room_for_cache": {
        "utilisation forgotten": lambda t, p, w, tp, n, a: t - w // tp - n - a,
        "utilisation of what is left": lambda t, p, w, tp, n, a: (t - w // tp - n - a) * p / 100,
        "weights not shared out": lambda t, p, w, tp, n, a: t * p / 100 - w - n - a,
        "activation shared out": lambda t, p, w, tp, n, a: t * p / 100 - w / tp - n - a / tp,
        "non-torch shared out": lambda t, p, w, tp, n, a: t * p / 100 - w / tp - n / tp - a,
        "everything shared out": lambda t, p, w, tp, n, a: t * p / 100 - (w + n + a) / tp,
        "activation forgotten": lambda t, p, w, tp, n, a: t * p / 100 - w / tp - n,
        "non-torch forgotten": lambda t, p, w, tp, n, a: t * p / 100 - w / tp - a,
        "weights forgotten": lambda t, p, w, tp, n, a: t * p / 100 - n - a,
        "room of all GPUs": lambda t, p, w, tp, n, a: tp * (t * p / 100 - n - a) - w,
    },
    "pool_tokens": {
        "blocks not rounded": lambda mib, *shape: mib * MiB // token(*shape),
        "blocks rounded up": lambda mib, *shape: 16 * math.ceil(Fraction(mib * MiB, 16 * token(*shape))),
        "blocks rounded to the nearest": lambda mib, *shape: 16 * round(mib * MiB / (16 * token(*shape))),
        "blocks for tokens": lambda mib, *shape: mib * MiB // (16 * token(*shape)),
        "a page of one layer": lambda mib, n, *shape: pooled(mib, token(1, *shape)),
        "K without V": lambda mib, *shape: mib * MiB // (8 * token(*shape)) * 16,
        "always two bytes": lambda mib, n, h, d, bits: pooled(mib, token(n, h, d, 16)),
        "bits for bytes": lambda mib, *shape: pooled(mib, 8 * token(*shape)),
        "MB for MiB": lambda mib, *shape: mib * 10**6 // (16 * token(*shape)) * 16,
    },
    "repaired_server": {
        "not repaired": lambda s: serve(s, s["label_gb"] * GiB, s["weight_bits"]),
        "label for visible bytes": lambda s: serve(s, s["label_gb"] * GiB, s["kv_bits"]),
        "KV dtype follows weights": lambda s: serve(s, s["visible_mib"] * MiB, s["weight_bits"]),
        "MB for MiB": lambda s: serve(s, s["visible_mib"] * 10**6, s["kv_bits"]),
        "blocks not rounded": lambda s: serve(s, s["visible_mib"] * MiB, s["kv_bits"], block=1),
        "utilisation forgotten": lambda s: serve(s, s["visible_mib"] * MiB, s["kv_bits"], percent=100),
        "weights forgotten": lambda s: serve(s, s["visible_mib"] * MiB, s["kv_bits"], weights=0),
    },
    "repaired_entry": {
        "latent without its scales": lambda n, r, p, i, tp: n * (r + 2 * p + i + 4),
        "latent without its scales, and divided by tp": lambda n, r, p, i, tp: n * (r + 2 * p + i + 4) / tp,
        "MLA divided by tp": lambda n, r, p, i, tp: n * entry(r, p, i) / tp,
        "MLA doubled for K and V": lambda n, r, p, i, tp: 2 * n * entry(r, p, i),
        "rotary key in fp8": lambda n, r, p, i, tp: n * (entry(r, p, i) - p),
        "indexer without its scale": lambda n, r, p, i, tp: n * (entry(r, p, i) - 4),
        "indexer forgotten": lambda n, r, p, i, tp: n * entry(r, p, 0),
        "no scales at all": lambda n, r, p, i, tp: n * (r + 2 * p + i),
        "a scale for the whole latent": lambda n, r, p, i, tp: n * (r + 4 + 2 * p + i + 4),
        "one layer only": lambda n, r, p, i, tp: entry(r, p, i),
    },
    "hybrid_block": {
        "rounded down": lambda state, h, d, bits: state // (4 * h * d * bits) * 16,
        "rounded to the nearest": lambda state, h, d, bits: round(state / (4 * h * d * bits)) * 16,
        "not a multiple of 16": lambda state, h, d, bits: math.ceil(state / (h * d * bits // 4)),
        "multiples for tokens": lambda state, h, d, bits: math.ceil(state / (4 * h * d * bits)),
        "K without V": lambda state, h, d, bits: up(state, h * d * bits // 8),
        "always two bytes": lambda state, h, d, bits: up(state, h * d * 4),
        "one head only": lambda state, h, d, bits: up(state, d * bits // 4),
        "the smallest block": lambda state, h, d, bits: 16,
    },
    "printed_tokens": {
        "old definition throughout": lambda n, g, b, per, length, minor: n // g * b,
        "new definition throughout": lambda n, g, b, per, length, minor: int(n / per * length),
        "definitions swapped": lambda n, g, b, per, length, minor: printed(n, g, b, per, length, 41 - minor),
        "groups forgotten": lambda n, g, b, per, length, minor: printed(n, 1, b, per, length, minor),
        "blocks x block": lambda n, g, b, per, length, minor: n * b,
        "a part of a round": lambda n, g, b, per, length, minor: (
            n / g * b if minor < 21 else printed(n, g, b, per, length, minor)
        ),
        "concurrency rounded first": lambda n, g, b, per, length, minor: (
            int(round(n / per, 2) * length) if minor > 20 else n // g * b
        ),
        "whole requests only": lambda n, g, b, per, length, minor: n // per * length if minor > 20 else n // g * b,
        "a part of a token": lambda n, g, b, per, length, minor: n / per * length if minor > 20 else n // g * b,
    },
}
# The same mistake in another form.
ALSO_WRONG = [
    ("pool_tokens", "blocks not rounded", lambda mib, *shape: mib * MiB / token(*shape)),
    ("repaired_server", "label for visible bytes", lambda s: serve(s, s["label_gb"] * GB, s["kv_bits"])),
]
EVERY_WRONG = pages.every_mistake(WRONG, ALSO_WRONG)
SOLVED = {"weight_bits": 16, "kv_bits": 8, "percent": 92, "max_model_len": 33_792, "batched_tokens": 4_096}


def run(name, function):
    return getattr(ex02, name)(function)


# ---------------------------------------------------------------- right answers


@pytest.mark.parametrize("name", RIGHT)
@pages.in_each_form(*pages.WHOLE_FORMS)
def test_a_right_answer_passes_in_any_form(name, form):
    pages.assert_right(run(name, lambda *inputs: form(RIGHT[name](*inputs))), name)


def test_floats_are_enough_where_a_learner_divides():
    assert run("room_for_cache", lambda t, p, w, tp, n, a: p / 100 * t - w / tp - n - a).ok
    assert run("hybrid_block", lambda state, h, d, bits: 16 * math.ceil(state / (16 * 2 * h * d * bits / 8))).ok
    assert run("printed_tokens", lambda n, g, b, per, t, v: n // g * b if v < 21 else int(n / per * t)).ok
    assert run("pool_tokens", lambda mib, n, h, d, bits: mib * 2**20 // (4 * n * h * d * bits) * 16.0).ok


# ---------------------------------------------------------------- the truth itself


def test_the_truth_agrees_with_the_library():
    for case in card.ROOM_FOR_CACHE.cases:
        total, percent, weights, tp, other, peak = (value for value in case.inputs.values())
        shared = budget(total * MiB, weights / tp * MiB, utilisation=percent / 100, non_torch=other * MiB,
                        activation=peak * MiB)  # fmt: skip
        assert counted.room_for_cache(**case.inputs) == pytest.approx(shared.kv_bytes / MiB, abs=1e-3)
    for case in blocks.POOL_TOKENS.cases:
        room, layers, heads, dim, bits = case.inputs.values()
        model = Model("", (Full(heads, dim, dim),) * layers)
        made = kv.pool(model, 4_096, available_bytes=room * MiB, kv_dtype="bf16" if bits == 16 else "fp8")
        assert counted.pool_tokens(**case.inputs) == made.tokens
    for case in published.REPAIRED_ENTRY.cases:
        layers, rank, rope, indexer, tp = case.inputs.values()
        one = entry_bytes(Latent(rank, rope, indexer), "fp8_ds_mla", tp)
        assert counted.repaired_entry(**case.inputs) == layers * one


@pytest.mark.parametrize(
    ("label", "row"),
    [
        ("Qwen3.6 35B-A3B, vLLM 0.20", "L170"),
        ("Qwen3.6 35B-A3B, vLLM 0.22", "L171"),
        ("Qwen3.5 9B, vLLM before 0.21", "L128"),
        ("27B hybrid, vLLM before 0.21", "L143"),
    ],
)
def test_the_cases_of_the_tokens_are_public_logs(label, row):
    inputs = next(case.inputs for case in blocks.PRINTED_TOKENS.cases if case.label == label)
    made = startup(row).pool(inputs["blocks"])
    assert counted.printed_tokens(**inputs) == startup(row).tokens
    assert (len(made.groups), made.block_tokens, made.per_request) == tuple(
        inputs[name] for name in ("groups", "block", "per_request")
    )
    assert made.max_model_len == inputs["max_model_len"]


def test_the_blocks_of_the_hybrids_are_those_of_the_engine():
    printed_blocks = [784, 1_568, 528, 4_176, 2_096]
    assert [counted.hybrid_block(**case.inputs) for case in blocks.HYBRID_BLOCK.cases] == printed_blocks


def test_the_cards_are_those_of_the_library():
    names = {"H100": "h100-sxm", "RTX 5090": "rtx5090", "H200": "h200-sxm", "B300": "b300"}
    for case in card.SHOWN_BYTES.cases:
        known = kv.gpu(names[case.label])
        assert counted.shown_bytes(**case.inputs) == known.visible_bytes
        assert case.inputs["label_gb"] == known.label_gb


# ---------------------------------------------------------------- mistakes are named


@pages.for_each_mistake(EVERY_WRONG)
def test_a_usual_mistake_is_caught_and_named(name, mistake, function):
    pages.assert_named(run(name, function), QUESTIONS[name], mistake)


def test_no_listed_mistake_goes_without_a_wrong_answer():
    listed = {name: {slip.name for slip in question.slips} for name, question in QUESTIONS.items()}
    assert listed == {name: set(wrong) for name, wrong in WRONG.items()}


def test_different_mistakes_give_different_answers_somewhere():
    pages.assert_answers_differ(QUESTIONS, RIGHT, WRONG)


def test_a_line_shows_the_answer_the_truth_and_the_reason():
    result = run("shown_bytes", WRONG["shown_bytes"]["MB for MiB"])
    assert result.lines[:2] == (
        "shown_bytes: not yet, 0 of 4 cases",
        "  wrong  H100: 81,559,000,000 bytes, not 85,520,809,984: you took MB; a MiB is 1,024 x 1,024 bytes, "
        "4.9 % more",
    )


# ---------------------------------------------------------------- sixty-four users


def served(design):
    """Users by formula."""
    room = 81_152 * MiB * design["percent"] // 100 - 7_615_616_512 * design["weight_bits"] // 8
    room -= 266 * MiB + 180 * 1_024 * design["batched_tokens"]
    block = 16 * token(28, 4, 128, design["kv_bits"])
    return max(0, room) // block // -(-design["max_model_len"] // 16)


@pytest.mark.parametrize("form", [int, float, np.int64, Fraction])
def test_the_solved_settings_pass_in_any_form(form):
    result = run("sixty_four_users", lambda: {key: form(value) for key, value in SOLVED.items()})
    assert result.ok, result
    assert result.lines[-1] == "  right  64 full requests fit at the same time"


@pytest.mark.parametrize("change", [{}, {"batched_tokens": 2_048}, {"max_model_len": 33_800, "batched_tokens": 2_048}])
def test_other_settings_pass_as_well(change):
    assert run("sixty_four_users", lambda: SOLVED | change).ok


@pytest.mark.parametrize(
    ("change", "mistake", "says"),
    [
        ({"kv_bits": 4}, "no such format", "weights in 16 and cache in 4"),
        ({"weight_bits": 8}, "two risks at a time", "weights in 8 and cache in 8 bits are two risks"),
        ({"percent": 93}, "the whole card", "93 % leave 5,680 MiB outside the limit"),
        ({"max_model_len": 32_768}, "no room for the answer", "not the 1,024 of the answer as well"),
        ({"max_model_len": 32_000}, "prompt cut off", "32,000 tokens is shorter than the prompt"),
        ({"batched_tokens": 1_024}, "reading too slow", "1,024 tokens at once read too slowly"),
        ({"batched_tokens": 8_192}, "activation too large", "serves 63 users at the same time, not 64"),
        ({"kv_bits": 16}, "cache in 16 bits", "serves 32 users"),
        ({"kv_bits": 16, "weight_bits": 4}, "cache in 16 bits", "serves 37 users"),
        ({"max_model_len": 40_000}, "requests too long", "requests of 40,000 tokens are longer than"),
        ({"percent": 80}, "card left unused", "the engine may use more than 80 %"),
        ({"percent": 10}, "card left unused", "serves 0 users"),
    ],
)
def test_settings_that_break_a_rule_are_told_which(change, mistake, says):
    pages.assert_told(ex02.sixty_four_users, SOLVED | change, mistake, says)


def test_the_users_are_counted_right():
    for percent, bits, length, batched in itertools.product((70, 92), (8, 16), (33_792, 33_801), (2_048, 8_192)):
        design = SOLVED | {"percent": percent, "kv_bits": bits, "max_model_len": length, "batched_tokens": batched}
        assert service.served(design) == served(design)


def test_the_only_way_is_an_eight_bit_cache_and_the_whole_limit():
    ways = itertools.product((4, 8, 16), (8, 16), range(50, 93), (2_048, 3_072, 4_096, 6_144, 8_192))
    names = ("weight_bits", "kv_bits", "percent", "batched_tokens")
    found = [dict(zip(names, way, strict=True)) for way in ways]
    allowed = [design for design in found if 16 in (design["weight_bits"], design["kv_bits"])]
    able = [design for design in allowed if served(SOLVED | design) >= 64]
    assert {(d["weight_bits"], d["kv_bits"]) for d in able} == {(16, 8)}
    assert {d["percent"] for d in able} == {92}
    assert max(d["batched_tokens"] for d in able) == 4_096


def test_the_model_of_the_puzzle_is_the_published_one():
    qwen = kv.model("qwen2.5-7b")
    assert qwen.parameters == service.PARAMETERS
    assert qwen.growth("bf16") == token(service.LAYERS, service.KV_HEADS, service.HEAD_DIM, 16)
