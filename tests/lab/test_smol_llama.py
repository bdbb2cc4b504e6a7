"""The Llama: equal to a loop over single numbers, however it is cut, cached or forked; bytes as kvlib counts them."""

import math
import re

import numpy as np
import pytest

import kvlib as kv
from kvlib.lab.smol_cache import LlamaCache
from kvlib.lab.smol_llama import Llama, rotate

CONFIG = {
    "model_type": "llama",
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "vocab_size": 50,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
    "rope_theta": 100.0,
    "rms_norm_eps": 1e-5,
}
HEADS, KV, SIZE, MLP = 6, 2, 4, 40
LLAMA = Llama.random(np.random.default_rng(0), CONFIG)
IDS = np.random.default_rng(1).integers(0, 50, 41)


def by_hand(llama, ids):
    """Logits after each token in float64: one query, head and earlier token at a time, rotated as complex numbers."""
    stream = [llama.head[:, token].astype(float) for token in ids]

    def norm(x, gain):
        return x / math.sqrt(sum(n * n for n in x) / len(x) + 1e-5) * gain

    def turned(vector, position):
        half = len(vector) // 2
        pairs = [complex(vector[i], vector[i + half]) for i in range(half)]
        pairs = [pair * np.exp(1j * position * 100.0 ** (-2 * i / len(vector))) for i, pair in enumerate(pairs)]
        return np.array([pair.real for pair in pairs] + [pair.imag for pair in pairs])

    for block in llama.blocks:
        keys, values, after = [], [], []
        for position, x in enumerate(stream):
            row = norm(x, block.attention_gain) @ block.qkv.astype(float)
            parts = row.reshape(HEADS + 2 * KV, SIZE)
            keys.append([turned(part, position) for part in parts[HEADS : HEADS + KV]])
            values.append(parts[HEADS + KV :])
            mixed = []
            for head in range(HEADS):
                group = head // (HEADS // KV)
                query = turned(parts[head], position)
                powers = [math.exp(query @ key[group] / 2) for key in keys]  # 2 is the root of the head size
                mixed.append(sum(p * value[group] for p, value in zip(powers, values, strict=True)) / sum(powers))
            x = x + np.concatenate(mixed) @ block.output.astype(float)
            both = norm(x, block.mlp_gain) @ block.gate_up.astype(float)
            gate, up = both[:MLP], both[MLP:]
            after.append(x + (gate / (1 + np.exp(-gate)) * up) @ block.down.astype(float))
        stream = after
    return np.array([norm(x, llama.gain) @ llama.head.astype(float) for x in stream])


EXPECTED = by_hand(LLAMA, IDS)


def close(found, expected, tolerance=1e-5):
    """Equal within `tolerance` of the largest logit."""
    return found.shape == expected.shape and abs(found - expected).max() < tolerance * abs(expected).max()


@pytest.mark.parametrize("chunk", [1, 2, 7, 40, 41, 256])
def test_equal_to_single_numbers_however_the_prompt_is_cut(chunk):
    cache = LLAMA.new_cache(41)
    assert close(LLAMA.forward(IDS, cache, chunk=chunk, every=True), EXPECTED)
    assert cache.tokens == 41


def test_prefill_then_decode():
    cache = LLAMA.new_cache(41)
    found = [LLAMA.forward(IDS[:30], cache)] + [LLAMA.forward([token], cache) for token in IDS[30:]]
    assert close(np.array(found), EXPECTED[29:])


def test_forks_share_a_start_and_nothing_else():
    start = LLAMA.new_cache(20)
    LLAMA.forward(IDS[:20], start)
    one, two = start.fork(21), start.fork(3)
    LLAMA.forward(IDS[:3], two)
    assert close(LLAMA.forward(IDS[20:], one, every=True), EXPECTED[20:])
    assert (start.tokens, one.tokens, two.tokens, one.room, two.room) == (20, 41, 23, 41, 23)
    assert close(LLAMA.forward(IDS[20:], start.fork(21), every=True), EXPECTED[20:])


def test_a_long_call_leaves_nothing_behind_in_the_buffers():
    llama = Llama.random(np.random.default_rng(0), CONFIG)
    before = llama.forward(IDS[:5], llama.new_cache(5))
    llama.forward(np.arange(50), llama.new_cache(50))
    assert np.array_equal(llama.forward(IDS[:5], llama.new_cache(5)), before)


def test_a_cache_of_half_the_bytes_costs_a_little_precision():
    found = LLAMA.forward(IDS, LLAMA.new_cache(41, "fp16"), chunk=1, every=True)
    assert close(found, EXPECTED, 1e-2) and not close(found, EXPECTED)


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_cache_bytes_are_what_kvlib_says(dtype):
    cache = LLAMA.new_cache(64, dtype)
    assert cache.nbytes == 0 and cache.reserved == LLAMA.model.cache_bytes(64, dtype)
    for tokens in (1, 30, 41):
        LLAMA.forward(IDS[cache.tokens : tokens], cache)
        assert cache.nbytes == LLAMA.model.cache_bytes(tokens, dtype)
    assert cache.fork(9).nbytes == cache.nbytes and cache.fork(9).reserved == LLAMA.model.cache_bytes(50, dtype)
    width = 2 if dtype == "fp16" else 4
    assert cache.nbytes == 2 * 3 * KV * SIZE * width * 41


def test_a_cache_of_smollm2s_shape():
    smollm2 = kv.model("smollm2-135m")
    cache = LlamaCache(30, 3, 64, 5, "fp16")
    assert cache.reserved == 5 * 23_040 == smollm2.cache_bytes(5, "fp16")  # 2 x 30 layers x 3 heads x 64 x 2 bytes
    cache.tokens = 5
    assert repr(cache) == "5 tokens in fp16 = 115 kB (112 KiB); room for 5"


def test_weights_are_what_kvlib_says():
    matrices = 24 * 24 + 2 * 24 * 8 + 24 * 24 + 3 * 24 * 40
    assert LLAMA.model.parameters == 50 * 24 + 24 + 3 * (matrices + 2 * 24)
    assert LLAMA.nbytes == LLAMA.model.weight_bytes("fp32")
    assert all(matrix.flags.c_contiguous for block in LLAMA.blocks for matrix in vars(block).values())
    assert LLAMA.head.flags.c_contiguous


def test_rotation_keeps_lengths_and_sees_distances_only():
    rng = np.random.default_rng(2)
    query, key = rng.standard_normal((2, 1, 1, 4)).astype(np.float32)

    def score(at, other):
        q, k = query.copy(), key.copy()
        rotate(q, *LLAMA._angles(at, 1))
        rotate(k, *LLAMA._angles(other, 1))
        assert np.linalg.norm(q) == pytest.approx(np.linalg.norm(query), rel=1e-6)
        return float((q * k).sum())

    assert score(9, 4) == pytest.approx(score(105, 100), abs=1e-5)
    assert abs(score(9, 4) - score(9, 5)) > 1e-3


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([], "ids must be one row of whole numbers, one at least; got []"),
        ([0.5], "ids must be one row of whole numbers, one at least; got [0.5]"),
        ([3, 50], "ids must be from 0 to 49; got 3 to 50"),
        ([-1], "ids must be from 0 to 49; got -1 to -1"),
        ([1, 2, 3], "cache must have room for 3 tokens, 3 of them new; it has 2"),
    ],
)
def test_wrong_ids_are_refused_and_leave_the_cache_alone(ids, message):
    cache = LLAMA.new_cache(2)
    with pytest.raises(ValueError, match=re.escape(message)):
        LLAMA.forward(ids, cache, chunk=1)
    assert cache.tokens == 0


def test_a_foreign_cache_and_an_unknown_format_are_refused():
    with pytest.raises(
        ValueError, match=r"KV heads and head size \(3, 2, 4\), as new_cache\(\) makes it; got \(3, 1, 4\)"
    ):
        LLAMA.forward([1], LlamaCache(3, 1, 4, 8))
    with pytest.raises(ValueError, match="dtype must be fp32 or fp16, the formats that numpy can hold; got 'bf16'"):
        LLAMA.new_cache(8, "bf16")
    with pytest.raises(ValueError, match="chunk must be a whole number, 1 or more; got 0"):
        LLAMA.forward([1], LLAMA.new_cache(8), chunk=0)
