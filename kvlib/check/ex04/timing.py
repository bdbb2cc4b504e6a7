"""Exercises 2, 5, 6 and 7: peaks and links as datasheets print them, the time of a prompt, and of a request."""

from __future__ import annotations

from fractions import Fraction

from kvlib.check.base import Case, Question, Slip
from kvlib.check.ex04 import counted

# ---------------------------------------------------------------- exercise 2: the ridge


def _card(label: str, printed: int, bandwidth: int, bits: float) -> Case:
    """A datasheet, for exercise 2."""
    return Case(label, {"printed_tflops": printed, "bandwidth_gb": bandwidth, "bits": bits})


RIDGE_BATCH = Question(
    "ridge_batch",
    "sequences",
    cases=(
        _card("H100 in bf16", 1_979, 3_350, 16),
        _card("H100 in fp8", 3_958, 3_350, 8),
        _card("H20 in bf16", 296, 4_000, 16),
        _card("B200 in nvfp4, 4.5 bits with its scales", 18_000, 8_000, 4.5),
    ),
    truth=counted.ridge_batch,
    slips=(
        Slip(
            "sparsity FLOPs",
            lambda printed, speed, bits: Fraction(printed * 1000, speed) * Fraction(bits) / 16,
            "the printed figure assumes that half of the weights are zero; dense, it is half (or is it the 2 FLOPs?)",
        ),
        Slip(
            "a number for a byte",
            lambda printed, speed, bits: Fraction(printed * 1000, speed) / 4,
            "a weight of {bits} bits is not one byte",
        ),
        Slip(
            "FLOPs per byte",
            lambda printed, speed, bits: Fraction(printed * 1000, speed) / 2,
            "that is the ridge in FLOPs per byte; a weight has {bits} bits and costs two FLOPs a sequence",
        ),
        Slip(
            "bits for bytes",
            lambda printed, speed, bits: Fraction(printed * 1000, speed) * Fraction(bits) / 4,
            "you took {bits} bits for {bits} bytes",
        ),
    ),
)

# ---------------------------------------------------------------- exercise 5: the first token


def _prompt(label: str, total: int, active: int, shape: tuple[int, int, int], tokens: int, peak: int) -> Case:
    """A prompt, for exercise 5; `shape` is layers, heads and head size."""
    layers, heads, head_dim = shape
    weights = {"total": total, "active": active, "layers": layers, "heads": heads, "head_dim": head_dim}
    return Case(label, {**weights, "tokens": tokens, "peak_tflops": peak})


def _linear(weights: int, tokens: int) -> int:
    """FLOPs of the products with weights."""
    return 2 * weights * tokens


def _square(layers: int, heads: int, dim: int, tokens: int) -> int:
    """FLOPs of causal attention."""
    return 2 * layers * heads * dim * tokens * (tokens + 1)


def _ms(flops: float, peak: int) -> Fraction:
    return Fraction(flops) / (peak * 10**9)


FIRST_TOKEN_MS = Question(
    "first_token_ms",
    "ms",
    cases=(
        _prompt("Llama 3.1 8B on an H100, 2,048 tokens", 8_030_261_248, 8_030_261_248, (32, 32, 128), 2_048, 989),
        _prompt("the same, 65,536 tokens", 8_030_261_248, 8_030_261_248, (32, 32, 128), 65_536, 989),
        _prompt("Qwen3 30B-A3B, 8,192 tokens", 30_532_122_624, 3_353_032_704, (48, 32, 128), 8_192, 989),
        _prompt("made up, 3 tokens", 10**9, 5 * 10**8, (2, 200, 500), 3, 1),
    ),
    truth=counted.first_token_ms,
    slips=(
        Slip(
            "total for active",
            lambda total, active, n, h, d, t, peak: _ms(_linear(total, t) + _square(n, h, d, t), peak),
            "a token is worked on by its active weights only, {active:,} of {total:,}",
        ),
        Slip(
            "attention forgotten",
            lambda total, active, n, h, d, t, peak: _ms(_linear(active, t), peak),
            "the scores and the mixing use no weights, and cost FLOPs all the same",
        ),
        Slip(
            "attention not causal",
            lambda total, active, n, h, d, t, peak: _ms(_linear(active, t) + 4 * n * h * d * t * t, peak),
            "no token looks at later ones: that is half of the {tokens:,} x {tokens:,} square",
        ),
        Slip(
            "half a square",
            lambda total, active, n, h, d, t, peak: _ms(_linear(active, t) + 2 * n * h * d * t * t, peak),
            "nearly: a token looks at itself too, so the pairs are a little more than half of the square",
        ),
        Slip(
            "scores only",
            lambda total, active, n, h, d, t, peak: _ms(_linear(active, t) + _square(n, h, d, t) / 2, peak),
            "scores are half of attention; mixing the values is the other half",
        ),
        Slip(
            "multiply-adds for FLOPs",
            lambda total, active, n, h, d, t, peak: _ms((_linear(active, t) + _square(n, h, d, t)) / 2, peak),
            "a multiply-add is two FLOPs",
        ),
        Slip(
            "one token only",
            lambda total, active, n, h, d, t, peak: _ms(_linear(active, 1) + 4 * n * h * d * t, peak),
            "that is the last token; a prefill works on all {tokens:,}",
        ),
        Slip("prefill free", lambda *inputs: 0, "reading is not free: {tokens:,} tokens go through all layers"),
    ),
)

# ---------------------------------------------------------------- exercise 6: the link


def _group(label: str, tokens: int, width: int, layers: int, gpus: int, link: int) -> Case:
    """A TP group, for exercise 6."""
    shape = {"tokens": tokens, "width": width, "layers": layers, "gpus": gpus}
    return Case(label, {**shape, "link_gb": link})


def _sent(tokens: int, width: int, layers: int, gpus: int) -> Fraction:
    """Bytes that each GPU sends."""
    return Fraction(2 * 2 * layers * 2 * (gpus - 1) * tokens * width, gpus)


ALL_REDUCE_MS = Question(
    "all_reduce_ms",
    "ms",
    cases=(
        _group("Llama 3.1 70B on 8 H100, 8,192 tokens", 8_192, 8_192, 80, 8, 900),
        _group("the same on 2 H100", 8_192, 8_192, 80, 2, 900),
        _group("the same on 4 L40S over PCIe", 8_192, 8_192, 80, 4, 64),
        _group("Llama 3.1 405B on 8 B200, 2,048 tokens", 2_048, 16_384, 126, 8, 1_800),
    ),
    truth=counted.all_reduce_ms,
    slips=(
        Slip(
            "bidirectional link figure",
            lambda t, w, n, g, link: _sent(t, w, n, g) / (link * 10**6),
            "half of it: {link_gb} GB/s are both directions together (or is an all-reduce, or a round, missing?)",
        ),
        Slip(
            "the whole message twice",
            lambda t, w, n, g, link: Fraction(4 * n * 2 * t * w * 2, link * 10**6),
            "one of the {gpus} pieces stays where it is in each round",
        ),
        Slip(
            "everything to everybody",
            lambda t, w, n, g, link: Fraction(2 * n * (g - 1) * 2 * t * w * 2, link * 10**6),
            "a ring passes pieces on and adds up on the way; nobody sends all to all {gpus}",
        ),
    ),
)

# ---------------------------------------------------------------- exercise 7: a whole request


def _request(label: str, prompt: int, output: int, speed: int, step: int) -> Case:
    """A request, for exercise 7."""
    return Case(label, {"prompt": prompt, "output": output, "prefill_tokens_s": speed, "step_ms": step})


REQUEST_MS = Question(
    "request_ms",
    "ms",
    cases=(
        _request("a chat: 500 tokens in, 200 out", 500, 200, 10_000, 20),
        _request("a report on a novel: 131,072 in, 500 out", 131_072, 500, 5_000, 25),
        _request("a classification: 4,000 in, 1 out", 4_000, 1, 8_000, 15),
        _request("a story: 100 in, 4,000 out", 100, 4_000, 10_000, 30),
    ),
    truth=counted.request_ms,
    slips=(
        Slip(
            "prefill free",
            lambda prompt, output, speed, step: (output - 1) * step,
            "the prompt of {prompt:,} tokens has to be read first",
        ),
        Slip(
            "prefill free",
            lambda prompt, output, speed, step: output * step,
            "the prompt of {prompt:,} tokens has to be read first",
        ),
        Slip(
            "the first token twice",
            lambda prompt, output, speed, step: Fraction(prompt * 1000, speed) + output * step,
            "the prefill already gives the first of the {output:,} tokens",
        ),
        Slip(
            "decode free",
            lambda prompt, output, speed, step: Fraction(prompt * 1000, speed),
            "that is the first token; {output:,} are wanted",
        ),
        Slip(
            "reading at the speed of writing",
            lambda prompt, output, speed, step: (prompt + output - 1) * step,
            "you read the prompt token by token; a prefill takes them together",
        ),
        Slip(
            "writing at the speed of reading",
            lambda prompt, output, speed, step: Fraction((prompt + output) * 1000, speed),
            "you wrote as fast as you read; each further token takes a step of {step_ms} ms",
        ),
        Slip(
            "seconds and milliseconds",
            lambda prompt, output, speed, step: Fraction(prompt, speed) + (output - 1) * step,
            "the prefill is in seconds, the steps are in milliseconds",
        ),
    ),
)
