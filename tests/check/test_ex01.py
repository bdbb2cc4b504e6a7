"""Exercise 01's checks: right answers pass in any form, and every usual mistake is caught and called by its name.

The wrong answers stand here once more, written apart from the checks, so that a slip in a check shows.
"""

import inspect
import itertools
import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

import kvlib as kv
from kvlib import check
from kvlib.check import ex01
from kvlib.check.base import Question
from kvlib.check.ex01 import counted, designs, layouts, plain
from kvlib.model import Full, Latent, Model, Sliding

GiB, GB = 2**30, 10**9
QUESTIONS = {question.name: question for module in (plain, layouts) for question in vars(module).values()
             if isinstance(question, Question)}  # fmt: skip


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
EVERY_WRONG = [(name, mistake, f) for name, wrong in WRONG.items() for mistake, f in wrong.items()] + ALSO_WRONG
SOLVED = {"layers": 20, "kv_heads": 2, "head_dim": 256, "full_every": 4, "window": 1_024, "bits": 8}
BROKEN = designs.LLAMA_2_7B | {"kv_heads": 4}


def run(name, function):
    return getattr(check.ex01, name)(function)


def returning(value):
    return lambda *inputs: value


# ---------------------------------------------------------------- right answers


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize(
    "form",
    [int, float, np.int64, np.float64, np.array, lambda n: np.array([n]), Fraction, Decimal, lambda n: n * (1 + 1e-14)],
    ids=["int", "float", "int64", "float64", "0-d array", "array of one", "Fraction", "Decimal", "rounding error"],
)
def test_a_right_answer_passes_in_any_form(name, form):
    result = run(name, lambda *inputs: form(RIGHT[name](*inputs)))
    assert result.ok, result
    assert bool(result)
    assert result.done
    assert result.mistake is None
    assert repr(result).startswith(f"{name}: right, {len(result.lines) - 1} of {len(result.lines) - 1} cases\n")
    assert all(line.startswith("  right  ") for line in result.lines[1:])


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


@pytest.mark.parametrize(("name", "mistake", "function"), EVERY_WRONG, ids=[f"{n}-{m}" for n, m, _ in EVERY_WRONG])
def test_a_usual_mistake_is_caught_and_named(name, mistake, function):
    result = run(name, function)
    assert not result.ok
    assert result.mistake == mistake
    slip = next(slip for slip in QUESTIONS[name].slips if slip.name == mistake)
    wrong = [line for line in result.lines if line.startswith("  wrong  ")]
    says = [slip.says.split("{")[0] for slip in QUESTIONS[name].slips if slip.name == mistake]
    assert wrong
    assert all(any(start in line for start in says) for line in wrong), (slip, wrong)
    assert "{" not in repr(result)


def test_no_listed_mistake_goes_without_a_wrong_answer():
    listed = {name: {slip.name for slip in question.slips} for name, question in QUESTIONS.items()}
    assert listed == {name: set(wrong) for name, wrong in WRONG.items()}


def test_different_mistakes_give_different_answers_somewhere():
    for name, question in QUESTIONS.items():
        answers = {m: [f(*c.inputs.values()) for c in question.cases] for m, f in WRONG[name].items()}
        for one, other in itertools.combinations(answers, 2):
            assert answers[one] != answers[other], (name, one, other)


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


# ---------------------------------------------------------------- stubs, odd answers, exceptions


EVERY_NAME = [*RIGHT, "broken_rule", "million_tokens"]


@pytest.mark.parametrize("name", EVERY_NAME)
def test_a_stub_is_not_done_yet(name):
    def stub(*inputs):
        raise NotImplementedError("write this part, then run the cell again")

    result = run(name, stub)
    assert repr(result) == f"{name}: not done yet"
    assert (result.ok, result.done, result.mistake) == (False, False, None)


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "your function returned None: is a `return` missing?"),
        ("131072", "your function returned the text '131072': return the bare number, without a unit"),
        ("128 KiB", "your function returned the text '128 KiB': return the bare number, without a unit"),
        (True, "your function returned True, of type bool: return one number"),
        (np.True_, "your function returned True, of type bool: return one number"),
        (float("nan"), "your function returned nan, which is not a number"),
        (np.float32("nan"), "your function returned nan, which is not a number"),
        (Decimal("NaN"), "your function returned nan, which is not a number"),
        (float("inf"), "your function returned inf, which is infinite"),
        (float("-inf"), "your function returned -inf, which is infinite"),
        (-5, "your function returned -5: a count is never below zero"),
        (-0.5, "your function returned -0.5: a count is never below zero"),
        (3j, "your function returned 3j, of type complex: return one number"),
        ([131_072], "your function returned [131072], of type list: return one number"),
        (np.array([1, 2]), "your function returned array([1, 2]), of type ndarray: return one number"),
        ({}, "your function returned {}, of type dict: return one number"),
        (object(), "your function returned <object object>, of type object: return one number"),
    ],
    ids=lambda value: None if type(value) is object else repr(value),  # an address would differ between workers
)
def test_an_odd_answer_is_explained(name, value, says):
    result = run(name, returning(value))
    assert (result.ok, result.done, result.mistake) == (False, True, None)
    assert result.lines[1:] == (f"  wrong  every case: {says}",)


@pytest.mark.parametrize("name", RIGHT)
def test_answers_of_any_size_are_shown(name):
    for value in (10**5_000, 1e300, 0, 0.25, 1e-300, Fraction(10**400, 3)):
        result = run(name, returning(value))
        assert not result.ok
        assert all(len(line) < 400 for line in result.lines)
    assert "a number of more than 21 digits" in repr(run(name, returning(10**5_000)))


@pytest.mark.parametrize("name", EVERY_NAME)
def test_an_exception_is_reported_kindly(name):
    def divides(*inputs):
        return 1 / 0

    def points_at_itself(*inputs):
        raise RuntimeError(f"lost {divides}\n  twice")

    assert "your function stopped with ZeroDivisionError: division by zero" in repr(run(name, divides))
    text = repr(run(name, points_at_itself))
    assert "your function stopped with RuntimeError: lost <function" in text
    assert "0x" not in text
    assert "\n  twice" not in text


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


@pytest.mark.parametrize("name", EVERY_NAME)
@pytest.mark.parametrize("value", [None, 131_072, "bytes_per_token", {}])
def test_something_that_is_no_function_is_explained(name, value):
    result = run(name, value)
    assert not result.ok
    assert result.lines[1] == (
        f"  wrong  pass your function itself to the check, without parentheses or quotes; it got {value!r}"
    )


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
        result = check.ex01.million_tokens(lambda form=form: {key: form(value) for key, value in SOLVED.items()})
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
    result = check.ex01.million_tokens(lambda: SOLVED | change)
    assert not result.ok
    assert result.mistake == mistake
    assert says in result.lines[-1]
    assert all(line.startswith("  right  ") for line in result.lines[1:-1])


@pytest.mark.parametrize("change", [{"kv_heads": 4}, {"kv_heads": 2}, {"kv_heads": 1}, {"head_dim": 16}])
def test_the_rule_of_thumb_can_be_broken_in_several_ways(change):
    result = check.ex01.broken_rule(lambda: designs.LLAMA_2_7B | change)
    assert result.ok, result
    assert result.lines[0] == "broken_rule: right, 3 of 3 rules"


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
    result = check.ex01.broken_rule(lambda: designs.LLAMA_2_7B | change)
    assert not result.ok
    assert result.mistake == mistake
    assert says in result.lines[-1]


@pytest.mark.parametrize(("name", "good"), [("million_tokens", SOLVED), ("broken_rule", BROKEN)])
def test_a_design_in_a_bad_form_is_explained(name, good):
    assert "your function returned None" in run(name, returning(None)).lines[1]
    for value in ([1], "layers", 7, {"layers": 20}, good | {"more": 1}):
        assert f"return a dict with the keys {', '.join(good)}" in run(name, returning(value)).lines[1]
    for bad in (0, -1, 1.5, None, "8", float("nan"), float("inf"), 10**30, True, [2]):
        line = run(name, returning(good | {"kv_heads": bad})).lines[1]
        assert line.startswith("  wrong  kv_heads must be a whole number from 1 to ")


# ---------------------------------------------------------------- what a notebook shows


def every_result():
    for name, function in RIGHT.items():
        yield run(name, function)
    for name, _, function in EVERY_WRONG:
        yield run(name, function)
    for change in ({}, {"bits": 16}, {"full_every": 6, "bits": 16}, {"window": 900_000}, {"layers": 3}):
        yield check.ex01.million_tokens(lambda change=change: SOLVED | change)
    for change in ({}, {"kv_heads": 4}, {"kv_heads": 8}):
        yield check.ex01.broken_rule(lambda change=change: designs.LLAMA_2_7B | change)


@pytest.fixture(scope="module")
def results():
    return list(every_result())


def test_no_check_shows_code_of_the_answer(results):
    fragments = [r"\w \* \w", r"\w\*\w", "//", "lambda", r"\bdef ", "min\\(", r"\.get\(", r"\bor\b [a-z_]+\["]
    for result in results:
        assert not re.search("|".join(fragments), repr(result)), result
        assert "'kv_heads': 2" not in repr(result)


def test_results_are_text_and_the_same_every_time(results):
    shown = list(map(repr, results))
    assert shown == list(map(repr, every_result()))
    for text in shown:
        assert "0x" not in text
        assert all(len(line) <= 200 for line in text.splitlines()), text
    assert not any(hasattr(check.base.Result, method) for method in ("_repr_html_", "_repr_mimebundle_"))


def test_every_check_says_which_exercise_and_which_arguments():
    in_order = ["broken_rule", "bytes_per_token", "config_bytes_per_token", "latent_bytes_per_token", "windowed_bytes"]
    in_order += ["chats_that_fit", "repaired", "million_tokens"]
    for number, name in enumerate(in_order, start=1):
        doc = inspect.getdoc(getattr(ex01, name))
        assert doc.startswith(f"Exercise {number}: ")
    for name, question in QUESTIONS.items():
        arguments = ", ".join(question.cases[0].inputs)
        assert f"`function({arguments})`" in inspect.getdoc(getattr(ex01, name))
