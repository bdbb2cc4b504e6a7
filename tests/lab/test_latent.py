"""MLA: unpacked and absorbed attention agree, and one token leaves rank + rope_dim numbers, whatever the heads."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlib.lab.attention import generate_cached, generate_recomputing
from kvlib.lab.latent import LatentAttention, rotate
from kvlib.model import Latent


@st.composite
def layers(draw, dtype="float64"):
    return LatentAttention.random(
        np.random.default_rng(draw(st.integers(0, 10**6))),
        width=draw(st.integers(1, 24)),
        heads=draw(st.integers(1, 6)),
        head_dim=draw(st.integers(1, 8)),
        rank=draw(st.integers(1, 12)),
        rope_dim=2 * draw(st.integers(1, 4)),
        dtype=dtype,
    )


def small(**changes):
    shape = {"width": 16, "heads": 4, "head_dim": 8, "rank": 12, "rope_dim": 6, "dtype": "float64"} | changes
    return LatentAttention.random(np.random.default_rng(0), **shape)


def noise(tokens, width, seed=0):
    return np.random.default_rng(seed).standard_normal((tokens, width))


def turned(vector, position):
    """Rotary embedding with complex numbers: pair i is turned by position / 10,000**(2 i / dim)."""
    half = len(vector) // 2
    points = vector[:half] + 1j * vector[half:]
    points = points * np.exp(1j * position * 10_000.0 ** (-2 * np.arange(half) / len(vector)))
    return np.concatenate([points.real, points.imag])


def by_hand(layer, x):
    """The layer one query, one head, one earlier token at a time."""
    heads, _, head_dim = layer.up_key.shape
    own = layer.query.shape[1] // heads
    output = np.zeros((len(x), layer.width))
    for now in range(len(x)):
        parts = []
        for head in range(heads):
            query = x[now] @ layer.query[:, head * own : (head + 1) * own]
            scores = []
            for then in range(now + 1):
                content = query[:head_dim] @ (x[then] @ layer.down @ layer.up_key[head])
                rotary = turned(query[head_dim:], now) @ turned(x[then] @ layer.rope, then)
                scores.append((content + rotary) / own**0.5)
            weights = np.exp(scores) / np.exp(scores).sum()
            parts.append(sum(w * (x[then] @ layer.down @ layer.up_value[head]) for then, w in enumerate(weights)))
        output[now] = np.concatenate(parts) @ layer.output
    return output


@given(layers(), st.integers(1, 10))
def test_unpacked_attention_is_the_definition(layer, tokens):
    x = noise(tokens, layer.width)
    np.testing.assert_allclose(layer.attend(x), by_hand(layer, x), rtol=0, atol=1e-9)


@given(layers(), st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_absorbed_attention_through_a_cache_gives_the_same(layer, blocks):
    x = noise(sum(blocks), layer.width)
    cache, outputs, done = layer.new_cache(), [], 0
    for block in blocks:
        outputs.append(layer.attend(x[done : done + block], cache))
        done += block
    np.testing.assert_allclose(np.concatenate(outputs), layer.attend(x), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("dtype", "atol"), [("float64", 1e-12), ("float32", 1e-5)])
def test_generating_with_and_without_a_cache_is_the_same(dtype, atol):
    layer, prompt = small(dtype=dtype), noise(5, 16)
    with_cache, without = generate_cached(layer, prompt, 20), generate_recomputing(layer, prompt, 20)
    assert with_cache.dtype == without.dtype == dtype
    np.testing.assert_allclose(with_cache, without, rtol=0, atol=atol)
    assert np.abs(without).max() > 0.1


@given(layers(), st.sampled_from(["float16", "float32", "float64"]), st.integers(1, 12))
def test_the_cache_is_as_large_as_the_model_layer_says(layer, dtype, tokens):
    counted = Latent(rank=layer.down.shape[1], rope_dim=layer.rope.shape[1])
    assert layer.layer == counted
    cache = layer.new_cache(dtype)
    layer.attend(noise(tokens, layer.width), cache)
    layer.step(noise(1, layer.width)[0], cache)
    assert cache.nbytes == counted.cached_elements(tokens + 1) * np.dtype(dtype).itemsize


def test_deepseek_v3_leaves_576_numbers_per_token_and_layer():
    """kv_lora_rank 512 and qk_rope_head_dim 64, as in its config.json; two heads stand for its 128."""
    layer = LatentAttention.random(np.random.default_rng(0), width=8, heads=2, head_dim=128, rank=512, rope_dim=64)
    cache = layer.new_cache("float16")
    layer.attend(noise(3, 8), cache)
    assert cache.nbytes == 3 * 576 * 2
    assert repr(layer) == "MLA: 2 heads x 128, one latent of 512 + rotary key of 64 for all, width 8"


def test_more_heads_do_not_make_the_cache_larger():
    sizes = set()
    for heads in (1, 4, 16):
        layer = small(heads=heads)
        cache = layer.new_cache()
        layer.attend(noise(7, 16), cache)
        sizes.add(cache.nbytes)
    assert sizes == {7 * (12 + 6) * 8}


@given(st.integers(1, 4), st.integers(0, 1_000), st.integers(0, 1_000), st.integers(0, 100))
def test_rotated_products_depend_on_the_distance_only(half, q_position, k_position, shift):
    q, k = noise(2, 2 * half)[:, None]
    near = rotate(q, np.array([q_position])) @ rotate(k, np.array([k_position])).T
    far = rotate(q, np.array([q_position + shift])) @ rotate(k, np.array([k_position + shift])).T
    np.testing.assert_allclose(near, far, rtol=0, atol=1e-9)


def test_order_matters_because_of_the_rotary_part():
    layer, x = small(), noise(4, 16)
    swapped = x[[1, 0, 2, 3]]
    assert not np.allclose(layer.attend(x)[3], layer.attend(swapped)[3])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rope_dim": 5}, "rope_dim must be even, because it is rotated in pairs; got 5"),
        ({"rope_dim": 0}, "rope_dim must be a whole number, 1 or more; got 0"),
        ({"rank": 0}, "rank must be a whole number, 1 or more; got 0"),
        ({"heads": 1.5}, "heads must be a whole number, 1 or more; got 1.5"),
        ({"dtype": "bf16"}, "dtype must be one of float32, float64; got 'bf16'"),
    ],
)
def test_bad_shapes_are_named(changes, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        small(**changes)


@pytest.mark.parametrize("shape", [(0, 16), (3, 17), (16,)])
def test_a_bad_sequence_is_named(shape):
    with pytest.raises(ValueError, match=r"^x must have shape \(tokens, 16\) with at least one token; got an array of"):
        small().attend(np.zeros(shape))
