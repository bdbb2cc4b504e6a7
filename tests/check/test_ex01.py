"""Exercise 01's checks: right answers pass in any form, and every usual mistake is caught and called by its name.

The wrong answers stand here once more, written apart from the checks, so that a slip in a check shows.
"""

from fractions import Fraction

import numpy as np
import pytest

import kvlib as kv
from kvlib.check import ex01
from kvlib.check.ex01 import counted, designs, layouts, plain
from kvlib.model import Full, Latent, Model, Sliding
from tests.check import exercise_pages as pages

GiB, GB = 2**30, 10**9
QUESTIONS = pages.questions(ex01)


def heads_of(config):
    heads = config["num_attention_heads"]
    return heads, config.get("num_key_value_heads") or heads, config.get("head_dim") or config["hidden_size"] // heads


def right_config(config):
    _, kv_heads, head_dim = heads_of(config)
    return 4 * config["num_hidden_layers"] * kv_heads * head_dim


def right_latent(config):
    return 2 * config["num_hidden_layers"] * (config["kv_lora_rank"] + config["qk_rope_head_dim"])


def right_windowed(layers, full_every, window, kv_heads, head_dim, tokens, batch):
    lengths = [min(tokens, window) if layer % full_every else tokens for layer in range(1, layers + 1)]
    return 4 * batch * kv_heads * head_dim * sum(lengths)


RIGHT = {
    "bytes_per_token": lambda n, q, k, d, bits: n * k * d * bits // 4,
    "config_bytes_per_token": right_config,
    "latent_bytes_per_token": right_latent,
    "windowed_bytes": right_windowed,
    "chats_that_fit": lambda gib, each, tokens: gib * GiB // (each * tokens),
    "repaired": lambda config, tokens, batch: right_config(config) * tokens * batch,
}

WRONG = {
    "bytes_per_token": {
        "query heads for KV heads": lambda n, q, k, d, bits: n * q * d * bits // 4,
        "K without V": lambda n, q, k, d, bits: n * k * d * bits // 8,
        "group size for group count": lambda n, q, k, d, bits: n * (q // k) * d * bits // 4,
        "one layer only": lambda n, q, k, d, bits: k * d * bits // 4,
        "bits for bytes": lambda n, q, k, d, bits: 2 * n * k * d * bits,
        "numbers for bytes": lambda n, q, k, d, bits: 2 * n * k * d,
        "always two bytes": lambda n, q, k, d, bits: 4 * n * k * d,
        "query heads for KV heads, and K without V": lambda n, q, k, d, bits: n * q * d * bits // 8,
    },
    "config_bytes_per_token": {
        "query heads for KV heads": lambda c: 4 * c["num_hidden_layers"] * heads_of(c)[0] * heads_of(c)[2],
        "hidden size / heads for an explicit head_dim": lambda c: (
            4 * c["num_hidden_layers"] * heads_of(c)[1] * c["hidden_size"] // c["num_attention_heads"]
        ),
        "one KV head where the field is missing": lambda c: (
            4 * c["num_hidden_layers"] * (c.get("num_key_value_heads") or 1) * heads_of(c)[2]
        ),
        "K without V": lambda c: right_config(c) // 2,
        "group size for group count": lambda c: (
            4 * c["num_hidden_layers"] * (heads_of(c)[0] // heads_of(c)[1]) * heads_of(c)[2]
        ),
        "one layer only": lambda c: 4 * heads_of(c)[1] * heads_of(c)[2],
        "bits for bytes": lambda c: 8 * right_config(c),
    },
    "latent_bytes_per_token": {
        "MLA without its rope part": lambda c: 2 * c["num_hidden_layers"] * c["kv_lora_rank"],
        "MLA doubled for K and V": lambda c: 2 * right_latent(c),
        "MLA doubled for K and V, without its rope part": lambda c: 4 * c["num_hidden_layers"] * c["kv_lora_rank"],
        "a latent for every head": lambda c: c["num_attention_heads"] * right_latent(c),
        "MLA counted as plain attention": lambda c: 4 * c["num_hidden_layers"] * c["hidden_size"],
        "MLA unpacked": lambda c: (
            2
            * c["num_hidden_layers"]
            * c["num_attention_heads"]
            * (c["qk_nope_head_dim"] + c["qk_rope_head_dim"] + c["v_head_dim"])
        ),
        "one head's key and value for the latent": lambda c: (
            2 * c["num_hidden_layers"] * (c["qk_nope_head_dim"] + c["qk_rope_head_dim"] + c["v_head_dim"])
        ),
        "one layer only": lambda c: right_latent(c) // c["num_hidden_layers"],
        "numbers for bytes": lambda c: right_latent(c) // 2,
    },
    "windowed_bytes": {
        "window ignored": lambda n, e, w, k, d, t, b: 4 * n * k * d * t * b,
        "every layer slides": lambda n, e, w, k, d, t, b: 4 * n * k * d * min(w, t) * b,
        "full and sliding swapped": lambda n, e, w, k, d, t, b: (
            4 * k * d * b * sum(t if layer % e else min(w, t) for layer in range(1, n + 1))
        ),
        "batch forgotten": lambda n, e, w, k, d, t, b: right_windowed(n, e, w, k, d, t, 1),
        "a short chat charged a whole window": lambda n, e, w, k, d, t, b: (
            4 * k * d * b * sum(w if layer % e else t for layer in range(1, n + 1))
        ),
        "full layers rounded up": lambda n, e, w, k, d, t, b: (
            4 * k * d * b * sum(min(w, t) if layer % e else t for layer in range(n))
        ),
        "a fraction of a layer": lambda n, e, w, k, d, t, b: 4 * k * d * b * (n / e * t + (n - n / e) * min(w, t)),
        "K without V": lambda *shape: right_windowed(*shape) / 2,
        "one layer only": lambda n, e, w, k, d, t, b: 4 * k * d * t * b,
        "window ignored, and batch forgotten": lambda n, e, w, k, d, t, b: 4 * n * k * d * t,
    },
    "chats_that_fit": {
        "GB for GiB": lambda gib, each, tokens: gib * GB // (each * tokens),
        "rounded up": lambda gib, each, tokens: -(-gib * GiB // (each * tokens)),
        "rounded to the nearest": lambda gib, each, tokens: round(gib * GiB / (each * tokens)),
        "a part of a chat": lambda gib, each, tokens: gib * GiB / (each * tokens),
        "tokens for chats": lambda gib, each, tokens: gib * GiB // each,
        "bits for bytes": lambda gib, each, tokens: 8 * gib * GiB // (each * tokens),
    },
    "repaired": {
        "not repaired": lambda c, t, b: 2 * c["hidden_size"] * c["num_hidden_layers"] * t * b,
        "query heads for KV heads": lambda c, t, b: 4 * c["hidden_size"] * c["num_hidden_layers"] * t * b,
        "K without V": lambda c, t, b: right_config(c) * t * b // 2,
        "hidden size / heads for an explicit head_dim": lambda c, t, b: (
            4 * c["num_hidden_layers"] * heads_of(c)[1] * (c["hidden_size"] // c["num_attention_heads"]) * t * b
        ),
        "batch forgotten": lambda c, t, b: right_config(c) * t,
        "one token only": lambda c, t, b: right_config(c) * b,
    },
}
# The same mistake in another form.
ALSO_WRONG = [
    ("chats_that_fit", "GB for GiB", lambda gib, each, tokens: gib * GB / (each * tokens)),
    (
        "repaired",
        "query heads for KV heads",
        lambda c, t, b: 4 * c["num_hidden_layers"] * heads_of(c)[0] * heads_of(c)[2] * t * b,
    ),
]
EVERY_WRONG = pages.every_mistake(WRONG, ALSO_WRONG)
SOLVED = {"layers": 20, "kv_heads": 2, "head_dim": 256, "full_every": 4, "window": 1_024, "bits": 8}


def run(name, function):
    return getattr(ex01, name)(function)


# ---------------------------------------------------------------- right answers


@pytest.mark.parametrize("name", RIGHT)
@pages.in_each_form(*pages.WHOLE_FORMS, "array of one")
def test_a_right_answer_passes_in_any_form(name, form):
    pages.assert_right(run(name, lambda *inputs: form(RIGHT[name](*inputs))), name)


@pytest.mark.parametrize("name", RIGHT)
def test_the_learner_may_change_the_inputs(name):
    def careless(*inputs):
        answer = RIGHT[name](*inputs)
        for value in inputs:
            if isinstance(value, dict):
                value.clear()
        return answer

    assert run(name, careless).ok
    assert run(name, RIGHT[name]).ok, "the cases of the next run must be untouched"


def test_a_whole_number_has_to_be_exact():
    off_by_one = run("windowed_bytes", lambda *shape: right_windowed(*shape) + 1)
    assert not off_by_one.ok
    assert off_by_one.mistake is None


# ---------------------------------------------------------------- the truth itself


def test_the_truth_agrees_with_the_layers_of_kvlib():
    for case in plain.BYTES_PER_TOKEN.cases:
        n, _, k, d, bits = case.inputs.values()
        assert counted.bytes_per_token(**case.inputs) * 8 == n * Full(k, d, d).cached_elements(1) * bits
    for case in layouts.LATENT_BYTES_PER_TOKEN.cases:
        c = case.inputs["config"]
        latent = Latent(rank=c["kv_lora_rank"], rope_dim=c["qk_rope_head_dim"])
        assert counted.latent_bytes_per_token(c) == Model("", (latent,) * c["num_hidden_layers"]).growth("bf16")
    for case in layouts.WINDOWED_BYTES.cases:
        n, every, w, k, d, t, b = case.inputs.values()
        layers = tuple(Sliding(k, d, d, w) if layer % every else Full(k, d, d) for layer in range(1, n + 1))
        assert counted.windowed_bytes(**case.inputs) == b * Model("", layers).cache_bytes(t)


@pytest.mark.parametrize(
    ("question", "label", "name", "tokens", "dtype", "chats"),
    [
        ("bytes_per_token", "Llama 3.1 8B, bf16", "llama-3.1-8b", 1, "bf16", 1),
        ("bytes_per_token", "Llama 2 13B, bf16", "llama-2-13b", 1, "bf16", 1),
        ("bytes_per_token", "Llama 3.1 70B, fp8", "llama-3.1-70b", 1, "fp8", 1),
        ("bytes_per_token", "Falcon 7B, bf16", "falcon-7b", 1, "bf16", 1),
        ("bytes_per_token", "Llama 3.2 1B, int4", "llama-3.2-1b", 1, "int4", 1),
        ("config_bytes_per_token", "Llama 3.1 8B", "llama-3.1-8b", 1, "bf16", 1),
        ("config_bytes_per_token", "LLaMA 7B, no num_key_value_heads", "llama-7b", 1, "bf16", 1),
        ("config_bytes_per_token", "Qwen3 30B-A3B, head_dim given", "qwen3-30b-a3b", 1, "bf16", 1),
        ("config_bytes_per_token", "ERNIE 4.5 0.3B, head_dim given", "ernie-4.5-0.3b", 1, "bf16", 1),
        ("latent_bytes_per_token", "DeepSeek-V3", "deepseek-v3", 1, "bf16", 1),
        ("latent_bytes_per_token", "DeepSeek-V2-Lite", "deepseek-v2-lite", 1, "bf16", 1),
        ("latent_bytes_per_token", "Kimi K2", "kimi-k2", 1, "bf16", 1),
        ("windowed_bytes", "Gemma 3 27B, 1 chat of 8,192 tokens", "gemma-3-27b", 8_192, "bf16", 1),
        ("windowed_bytes", "Gemma 3 12B, 3 chats of 2,000 tokens", "gemma-3-12b", 2_000, "bf16", 3),
        ("windowed_bytes", "Gemma 3 12B, 1 chat of 100 tokens", "gemma-3-12b", 100, "bf16", 1),
        ("repaired", "LLaMA 7B, 1 chat of 2,048 tokens", "llama-7b", 2_048, "bf16", 1),
        ("repaired", "Llama 3.1 70B, 4 chats of 1,000 tokens", "llama-3.1-70b", 1_000, "bf16", 4),
        ("repaired", "Qwen3 30B-A3B, 3 chats of 5,000 tokens", "qwen3-30b-a3b", 5_000, "bf16", 3),
    ],
)
def test_a_named_model_is_the_published_one(question, label, name, tokens, dtype, chats):
    case = next(case for case in QUESTIONS[question].cases if case.label == label)
    assert QUESTIONS[question].truth(**case.inputs) == chats * kv.model(name).cache_bytes(tokens, dtype)


@pytest.mark.parametrize("case", layouts.CHATS_THAT_FIT.cases, ids=lambda case: case.label)
def test_the_chats_really_fit_and_one_more_would_not(case):
    gib, each, tokens = case.inputs.values()
    chats = counted.chats_that_fit(**case.inputs)
    assert chats * each * tokens <= gib * GiB < (chats + 1) * each * tokens


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
    result = run("bytes_per_token", WRONG["bytes_per_token"]["query heads for KV heads"])
    assert result.lines[:3] == (
        "bytes_per_token: not yet, 1 of 5 cases",
        "  wrong  Llama 3.1 8B, bf16: 524,288 bytes, not 131,072: you used the query heads (32); "
        "the cache holds the KV heads (8)",
        "  right  Llama 2 13B, bf16: 819,200 bytes",
    )


def test_an_unknown_factor_is_pointed_out_without_guessing():
    result = run("bytes_per_token", lambda *shape: 3 * RIGHT["bytes_per_token"](*shape))
    assert result.mistake is None
    assert (
        result.lines[-1] == "  Every wrong answer is 3 times the right one. Which factor is missing, or one too many?"
    )
    double = run("bytes_per_token", lambda *shape: 2 * RIGHT["bytes_per_token"](*shape))
    assert "Every wrong answer is 2 times the right one." in double.lines[-1]
    assert double.mistake is None, "on single models this looks like other mistakes; none of them explains the rest"
    third = run("bytes_per_token", lambda *shape: Fraction(RIGHT["bytes_per_token"](*shape), 3))
    assert "Every wrong answer is 1/3 of the right one." in third.lines[-1]


def test_a_mixture_of_mistakes_names_them_case_by_case():
    def mixed(layers, query_heads, kv_heads, head_dim, bits):
        mistake = "query heads for KV heads" if bits == 16 else "numbers for bytes"
        return WRONG["bytes_per_token"][mistake](layers, query_heads, kv_heads, head_dim, bits)

    result = run("bytes_per_token", mixed)
    assert "you used the query heads (32)" in result.lines[1]
    assert "these are numbers; each of them takes 4 bits" in result.lines[5]


# ---------------------------------------------------------------- exceptions


def test_an_exception_on_one_model_names_the_model():
    result = run("config_bytes_per_token", lambda c: 4 * c["num_hidden_layers"] * c["num_key_value_heads"] * 128)
    assert "  wrong  LLaMA 7B, no num_key_value_heads: your function stopped with KeyError: 'num_key_value_heads'" in (
        result.lines
    )
    assert result.lines[1].startswith("  right  Llama 3.1 8B")


def test_a_learners_interrupt_gets_through():
    def interrupted(*inputs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("bytes_per_token", interrupted)


# ---------------------------------------------------------------- the two designs


def cost(design, tokens=1_000_000):
    """The bytes of exercise 8 by formula."""
    full = design["layers"] // design["full_every"]
    held = full * tokens + (design["layers"] - full) * min(tokens, design["window"])
    return held * 2 * design["kv_heads"] * design["head_dim"] * design["bits"] // 8


def test_the_target_is_the_least_that_the_rules_allow():
    allowed = [
        dict(zip(SOLVED, (layers, kv_heads, head_dim, full_every, 1_024, bits), strict=True))
        for layers in range(1, 201)
        for kv_heads in (1, 2, 4, 8, 16, 32)
        for head_dim in (64, 128, 256)
        for full_every in range(1, 7)
        for bits in (8, 16)
        if layers * head_dim >= 5_120 and kv_heads * head_dim >= 512 and full_every <= layers
        if bits == 16 or full_every <= 4
    ]
    best = min(allowed, key=cost)
    assert best == SOLVED
    assert cost(best) == designs.TARGET == counted.design_bytes(SOLVED, 1_000_000)
    assert [design for design in allowed if cost(design) <= designs.TARGET] == [SOLVED]
    sparsest = min((design for design in allowed if design["full_every"] == 6), key=cost)
    assert sparsest["bits"] == 16
    assert cost(sparsest) > cost(best), "the trap: the fewest full layers are not the fewest bytes"


def test_the_solved_design_passes_in_any_form():
    for form in (int, float, np.int64, Fraction):
        result = ex01.million_tokens(lambda form=form: {key: form(value) for key, value in SOLVED.items()})
        assert result.ok, result
    assert repr(result).startswith("million_tokens: right, 8 of 8 rules\n")
    assert result.lines[-1] == "  right  1,000,000 tokens take at most 5,135,728,640 bytes"


@pytest.mark.parametrize(
    ("change", "mistake", "says"),
    [
        ({"kv_heads": 3}, "unequal groups", "32 query heads cannot share 3 KV heads in equal groups"),
        ({"head_dim": 192}, "head_dim out of the list", "head_dim must be 64, 128 or 256; it is 192"),
        ({"layers": 19}, "too small a model", "19 layers with heads of 256 are too small a model"),
        ({"kv_heads": 1}, "too little room to remember", "1 KV heads of 256 leave too little room"),
        ({"full_every": 7}, "too few full layers", "1 full layer in 7, with 20 layers, is too rare"),
        ({"window": 1_023}, "window too short", "a window of 1,023 tokens is below 1,024"),
        ({"bits": 4}, "two risks at a time", "4 bits with 1 full layer in 4"),
        ({"full_every": 5}, "two risks at a time", "8 bits with 1 full layer in 5"),
        ({"full_every": 6, "bits": 16}, "the fewest full layers", "6.18 GB (5.76 GiB) is 1,043,922,944 bytes above"),
        ({"window": 900_000}, "windows too long", "most of it is in the sliding layers"),
        ({"bits": 16}, "above the target", "most of it is in the 5 full layers"),
        ({"layers": 21}, "above the target", "1,048,576 bytes above the target"),
    ],
)
def test_a_design_that_breaks_a_rule_is_told_which(change, mistake, says):
    pages.assert_told(ex01.million_tokens, SOLVED | change, mistake, says)


@pytest.mark.parametrize("change", [{"kv_heads": 4}, {"kv_heads": 2}, {"kv_heads": 1}, {"head_dim": 16}])
def test_the_rule_of_thumb_can_be_broken_in_several_ways(change):
    pages.assert_passes(ex01.broken_rule, designs.LLAMA_2_7B | change, rules=3)


@pytest.mark.parametrize(
    ("change", "mistake", "says"),
    [
        ({}, "nothing changed", "there the rule is exact"),
        ({"kv_heads": 4, "layers": 16}, "more than one change", "you changed layers, kv_heads"),
        ({"kv_heads": 3}, "unequal groups", "32 query heads cannot share 3 KV heads"),
        ({"kv_heads": 64}, "unequal groups", "32 query heads cannot share 64 KV heads"),
        ({"kv_heads": 8}, "group size for group count", "8 KV heads make groups of 4, you want groups of 8"),
        (
            {"kv_heads": 16},
            "not broken enough",
            "the rule counts 262,144 numbers per token and the model keeps 131,072",
        ),
        ({"layers": 64}, "not broken enough", "not yet eight times too many"),
    ],
)
def test_a_rule_that_is_not_broken_is_explained(change, mistake, says):
    pages.assert_told(ex01.broken_rule, designs.LLAMA_2_7B | change, mistake, says)


# ---------------------------------------------------------------- what a notebook shows


def every_result():
    yield from pages.all_answers(run, RIGHT, EVERY_WRONG)
    for change in ({}, {"bits": 16}, {"full_every": 6, "bits": 16}, {"window": 900_000}, {"layers": 3}):
        yield ex01.million_tokens(lambda change=change: SOLVED | change)
    for change in ({}, {"kv_heads": 4}, {"kv_heads": 8}):
        yield ex01.broken_rule(lambda change=change: designs.LLAMA_2_7B | change)


def test_results_are_short_deterministic_text_without_code_of_the_answer():
    pages.assert_short_text_without_code(every_result, r"\.get\(", r"\bor\b [a-z_]+\[")


def test_no_result_shows_the_design_that_is_asked_for():
    assert not any("'kv_heads': 2" in repr(result) for result in every_result())
