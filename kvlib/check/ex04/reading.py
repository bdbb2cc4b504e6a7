"""Exercises 3, 4 and 8: what a decode step reads, and how many users it can serve in time."""

from __future__ import annotations

from kvlib.check.base import Case, Question, Slip
from kvlib.check.ex04 import counted
from kvlib.check.ex04.counted import GiB

# ---------------------------------------------------------------- exercise 3: the bytes of a step

LLAMA_8B, LLAMA_70B_FP8 = 15_009_849_344, 69_503_033_344  # bytes of weights without the embedding, which is looked up


def _step(label: str, weights: int, kv: int, context: int, batch: int) -> Case:
    """A decode step, for exercise 3."""
    return Case(label, {"weights": weights, "kv_per_token": kv, "context": context, "batch": batch})


STEP_BYTES = Question(
    "step_bytes",
    "bytes",
    cases=(
        _step("Llama 3.1 8B in bf16, one user with 2,048 tokens", LLAMA_8B, 131_072, 2_048, 1),
        _step("the same for 64 users", LLAMA_8B, 131_072, 2_048, 64),
        _step("the same for 8 users with 131,072 tokens", LLAMA_8B, 131_072, 131_072, 8),
        _step("Llama 3.1 70B in fp8, 32 users with 8,192 tokens", LLAMA_70B_FP8, 163_840, 8_192, 32),
    ),
    truth=counted.step_bytes,
    slips=(
        Slip(
            "weights read per sequence",
            lambda weights, kv, context, batch: batch * (weights + kv * context),
            "you read the weights {batch} times; one reading serves the whole batch",
        ),
        Slip(
            "KV forgotten",
            lambda weights, kv, context, batch: weights,
            "you read the weights only; attention reads every key and value of the context too",
        ),
        Slip(
            "one cache for all",
            lambda weights, kv, context, batch: weights + kv * context,
            "you read one cache; each of the {batch} sequences has its own",
        ),
        Slip(
            "the newest token only",
            lambda weights, kv, context, batch: weights + kv * batch,
            "you read the newest token's key and value; attention reads those of all {context:,} tokens",
        ),
        Slip(
            "weights forgotten",
            lambda weights, kv, context, batch: kv * context * batch,
            "you read the caches only; every step reads the weights as well",
        ),
        Slip(
            "cache read and written",
            lambda weights, kv, context, batch: weights + 2 * kv * context * batch,
            "you counted the cache twice; it is read, and only one token's part is written",
        ),
    ),
)

# ---------------------------------------------------------------- exercise 4: experts

V3_EXPERT = 3 * 7_168 * 2_048 * 58  # bytes in fp8 of one expert, over the 58 layers that have experts
V3_SHARED = 16_190_954_496  # bytes in fp8 of what every token uses, without the embedding


def _experts(label: str, shared: int, expert: int, experts: int, per_token: int, batch: int) -> Case:
    """A mixture of experts, for exercise 4."""
    shape = {"experts": experts, "per_token": per_token, "batch": batch}
    return Case(label, {"shared": shared, "expert": expert, **shape})


EXPERT_BYTES = Question(
    "expert_bytes",
    "bytes",
    cases=(
        _experts("DeepSeek-V3 in fp8, batch 1", V3_SHARED, V3_EXPERT, 256, 8, 1),
        _experts("DeepSeek-V3 in fp8, batch 8", V3_SHARED, V3_EXPERT, 256, 8, 8),
        _experts("DeepSeek-V3 in fp8, batch 64", V3_SHARED, V3_EXPERT, 256, 8, 64),
        _experts("made up, 4 experts of which 2 are chosen, batch 2", 1_000, 100, 4, 2, 2),
    ),
    truth=counted.expert_bytes,
    slips=(
        Slip(
            "total for active",
            lambda shared, expert, n, k, batch: shared + n * expert,
            "you read all {experts} experts; a batch of {batch} does not ask for every one",
        ),
        Slip(
            "active for every batch",
            lambda shared, expert, n, k, batch: shared + k * expert,
            "that is one token's {per_token} experts; the {batch} tokens of the batch choose different ones",
        ),
        Slip(
            "every choice a new expert",
            lambda shared, expert, n, k, batch: shared + batch * k * expert,
            "you gave every token {per_token} experts of its own; some choose the same, and that is read once",
        ),
        Slip(
            "every choice a new expert",
            lambda shared, expert, n, k, batch: shared + min(n, batch * k) * expert,
            "you gave every token {per_token} experts of its own; some choose the same, and that is read once",
        ),
        Slip(
            "shared part forgotten",
            lambda shared, expert, n, k, batch: n * (1 - (1 - k / n) ** batch) * expert,
            "attention, the shared expert and the head are read too",
        ),
        Slip(
            "one choice a token",
            lambda shared, expert, n, k, batch: shared + n * (1 - (1 - 1 / n) ** batch) * expert,
            "each token chooses {per_token} experts, not one",
        ),
    ),
)

# ---------------------------------------------------------------- exercise 7: users in time


def _service(label: str, weights_gib: int, cache_mib: int, bandwidth_gb: int, step_ms: int) -> Case:
    """A card and a promise, for exercise 7."""
    shape = {"bandwidth_gb": bandwidth_gb, "step_ms": step_ms}
    return Case(label, {"weights_gib": weights_gib, "cache_mib": cache_mib, **shape})


USERS_AT_SPEED = Question(
    "users_at_speed",
    "users",
    cases=(
        _service("an 8B in bf16 on an H100, 1 GiB of cache each, 20 ms", 14, 1024, 3350, 20),
        _service("the same, 10 ms", 14, 1024, 3350, 10),
        _service("the same on an L4, 100 ms", 14, 1024, 300, 100),
        _service("a 70B in fp8 on an H200, 300 MiB of cache each, 25 ms", 65, 300, 4800, 25),
    ),
    truth=counted.users_at_speed,
    slips=(
        Slip(
            "GB for GiB",
            lambda w, c, speed, ms: (speed * 10**6 * ms - w * 10**9) // (c * 10**6),
            "the log's sizes are GiB and MiB, the datasheet's bandwidth GB",
        ),
        Slip(
            "GB for GiB",
            lambda w, c, speed, ms: (speed * GiB * ms // 1000 - w * GiB) // (c * 2**20),
            "the log's sizes are GiB and MiB, the datasheet's bandwidth GB",
        ),
        Slip(
            "weights read per sequence",
            lambda w, c, speed, ms: speed * 10**6 * ms // (w * GiB + c * 2**20),
            "you read the weights for every user; one reading serves all",
        ),
        Slip(
            "weights forgotten",
            lambda w, c, speed, ms: speed * 10**6 * ms // (c * 2**20),
            "the weights are read in every step as well",
        ),
        Slip(
            "rounded up",
            lambda w, c, speed, ms: -(-(speed * 10**6 * ms - w * GiB) // (c * 2**20)),
            "you rounded up, and with the last user the step is late",
        ),
        Slip(
            "a part of a user",
            lambda w, c, speed, ms: (speed * 10**6 * ms - w * GiB) / (c * 2**20),
            "whole users only",
        ),
    ),
)
