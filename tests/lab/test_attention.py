"""Attention with a cache gives what attention without one gives, and the cache is as large as kvlib says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlib.lab.attention import Attention, Cache, causal_softmax, generate_cached, generate_recomputing
from kvlib.lab.latent import LatentAttention
from kvlib.model import Full, Sliding


@st.composite
def layers(draw, dtype="float64"):
    """MHA, GQA or MQA of any small shape, with or without a window; head_dim is free of width and heads."""
    kv_heads, group = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    return Attention.random(
        np.random.default_rng(draw(st.integers(0, 10**6))),
        width=draw(st.integers(1, 24)),
        heads=kv_heads * group,
        kv_heads=kv_heads,
        head_dim=draw(st.integers(1, 8)),
        window=draw(st.none() | st.integers(1, 12)),
        dtype=dtype,
    )


def small(seed=0, **changes):
    shape = {"width": 16, "heads": 4, "kv_heads": 2, "head_dim": 8, "dtype": "float64"} | changes
    return Attention.random(np.random.default_rng(seed), **shape)


def noise(tokens, width, seed=0):
    return np.random.default_rng(seed).standard_normal((tokens, width))


def by_hand(layer, x):
    """The layer one query, one head, one key at a time: no matrix of scores, no mask, no grouping by reshape."""
    output = np.zeros((len(x), layer.width))
    group = layer.heads // layer.kv_heads
    for now in range(len(x)):
        heads = []
        for head in range(layer.heads):
            own = slice(head * layer.head_dim, (head + 1) * layer.head_dim)
            shared = slice((head // group) * layer.head_dim, (head // group + 1) * layer.head_dim)
            first = 0 if layer.window is None else max(0, now - layer.window + 1)
            query = x[now] @ layer.query[:, own]
            scores = [query @ (x[then] @ layer.key[:, shared]) / layer.head_dim**0.5 for then in range(first, now + 1)]
            weights = np.exp(scores) / np.exp(scores).sum()
            heads.append(sum(w * (x[first + i] @ layer.value[:, shared]) for i, w in enumerate(weights)))
        output[now] = np.concatenate(heads) @ layer.output
    return output


# ---------------------------------------------------------------- the same answer


@given(layers(), st.integers(1, 16))
def test_attention_is_the_textbook_definition(layer, tokens):
    x = noise(tokens, layer.width)
    np.testing.assert_allclose(layer.attend(x), by_hand(layer, x), rtol=0, atol=1e-9)


def test_as_many_kv_heads_as_heads_is_plain_multi_head_attention():
    layer = small(kv_heads=4)
    x = noise(9, 16)
    split = {"query": (16, 4, 8), "key": (16, 4, 8), "value": (16, 4, 8)}
    q, k, v = (np.einsum("tw,whd->thd", x, getattr(layer, name).reshape(shape)) for name, shape in split.items())
    scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(8)
    scores[:, np.triu_indices(9, 1)[0], np.triu_indices(9, 1)[1]] = -np.inf
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    expected = np.einsum("hqk,khd,hdw->qw", weights, v, layer.output.reshape(4, 8, 16))
    np.testing.assert_allclose(layer.attend(x), expected, rtol=0, atol=1e-12)


@given(layers(), st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_blocks_of_any_size_through_a_cache_equal_the_whole_sequence(layer, blocks):
    x = noise(sum(blocks), layer.width)
    cache, outputs, done = layer.new_cache(), [], 0
    for block in blocks:
        outputs.append(layer.attend(x[done : done + block], cache))
        done += block
    np.testing.assert_allclose(np.concatenate(outputs), layer.attend(x), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("dtype", "atol"), [("float64", 1e-12), ("float32", 1e-5)])
@pytest.mark.parametrize("shape", [{"kv_heads": 4}, {"kv_heads": 2}, {"kv_heads": 1}, {"window": 3}, {"window": 1}])
def test_generating_with_and_without_a_cache_is_the_same(shape, dtype, atol):
    layer, prompt = small(dtype=dtype, **shape), noise(5, 16)
    with_cache, without = generate_cached(layer, prompt, 20), generate_recomputing(layer, prompt, 20)
    assert with_cache.shape == without.shape == (20, 16)
    assert with_cache.dtype == without.dtype == dtype
    np.testing.assert_allclose(with_cache, without, rtol=0, atol=atol)
    assert np.abs(without).max() > 0.1, "outputs that fade to nothing would agree without proving anything"


@given(layers(dtype="float32"), st.integers(1, 12))
def test_single_precision_agrees_to_a_millionth_of_the_largest_output(layer, tokens):
    x = noise(tokens, layer.width)
    cache = layer.new_cache()
    stepped = np.stack([layer.step(token, cache) for token in x])
    whole = layer.attend(x)
    np.testing.assert_allclose(stepped, whole, rtol=0, atol=1e-6 * max(1, np.abs(x).max() ** 2))


def test_a_half_precision_cache_rounds_but_does_not_derail():
    layer, x = small(dtype="float32"), noise(30, 16)
    cache = layer.new_cache("float16")
    stepped = np.stack([layer.step(token, cache) for token in x])
    assert stepped.dtype == np.float32
    off = np.abs(stepped - layer.attend(x)).max()
    assert 1e-6 < off < 1e-2


def test_later_tokens_do_not_change_earlier_outputs():
    layer, x = small(), noise(8, 16)
    changed = x.copy()
    changed[5:] = 100
    np.testing.assert_array_equal(layer.attend(x)[:5], layer.attend(changed)[:5])
    assert not np.allclose(layer.attend(x)[5], layer.attend(changed)[5])


def test_tokens_before_the_window_do_not_count():
    layer, x = small(window=3), noise(8, 16)
    changed = x.copy()
    changed[:5] = 100
    np.testing.assert_allclose(layer.attend(x)[7], layer.attend(changed)[7], atol=1e-12)
    assert not np.allclose(layer.attend(x)[6], layer.attend(changed)[6])


def test_softmax_survives_large_scores_and_adds_up_to_one():
    weights = causal_softmax(np.array([[1e4, -1e4, 5.0], [0.0, 1e4, 1e4]]))
    np.testing.assert_allclose(weights.sum(-1), 1)
    np.testing.assert_allclose(weights, [[1, 0, 0], [0, 0.5, 0.5]])


# ---------------------------------------------------------------- the size of the cache


@given(layers(), st.sampled_from(["float16", "float32", "float64"]), st.integers(1, 30))
def test_the_cache_is_as_large_as_the_model_layer_says(layer, dtype, tokens):
    shape = (layer.kv_heads, layer.head_dim, layer.head_dim)
    counted = Full(*shape) if layer.window is None else Sliding(*shape, layer.window)
    assert layer.layer == counted
    cache = layer.new_cache(dtype)
    for token in range(1, tokens + 1):
        layer.step(noise(1, layer.width, token)[0], cache)
        assert cache.nbytes == counted.cached_elements(token) * np.dtype(dtype).itemsize
    assert cache.seen == tokens
    assert cache.held == min(tokens, layer.window or tokens)


@given(st.integers(1, 6), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_a_window_holds_no_more_than_itself_after_any_block(window, blocks):
    layer = small(window=window)
    cache = layer.new_cache("float16")
    for block in blocks:
        layer.attend(noise(block, 16), cache)
        assert cache.nbytes == layer.layer.cached_elements(cache.seen) * 2
        assert all(array.base is None for array in cache.arrays.values()), "a view would keep dropped rows in memory"
    assert cache.held == min(window, sum(blocks))


def test_half_precision_has_the_two_bytes_of_the_formula():
    layer = Attention.random(np.random.default_rng(0), width=64, heads=32, kv_heads=8, head_dim=128)
    cache = layer.new_cache("float16")
    layer.attend(noise(10, 64), cache)
    assert cache.nbytes == 10 * 8 * (128 + 128) * 2 == 40_960
    assert repr(cache) == (
        "10 of 10 tokens held: keys (10, 8, 128) float16 + values (10, 8, 128) float16 = 41 kB (40 KiB)"
    )


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 8, "kv_heads": 3}, "kv_heads must divide the 8 heads into equal groups; got 3"),
        ({"heads": 4, "kv_heads": 8}, "kv_heads must divide the 4 heads into equal groups; got 8"),
        ({"kv_heads": 0}, "kv_heads must be a whole number, 1 or more; got 0"),
        ({"heads": -4}, "heads must be a whole number, 1 or more; got -4"),
        ({"head_dim": 2.5}, "head_dim must be a whole number, 1 or more; got 2.5"),
        ({"width": 0}, "width must be a whole number, 1 or more; got 0"),
        ({"window": 0}, "window must be a whole number, 1 or more; got 0"),
        ({"window": -1}, "window must be a whole number, 1 or more; got -1"),
        ({"dtype": "float16"}, "dtype must be one of float32, float64; got 'float16'"),
    ],
)
def test_bad_shapes_are_named(changes, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        small(**changes)


@pytest.mark.parametrize("shape", [(0, 16), (3, 15), (16,), (1, 3, 16)])
def test_a_bad_sequence_is_named(shape):
    with pytest.raises(ValueError, match=r"^x must have shape \(tokens, 16\) with at least one token; got an array of"):
        small().attend(np.zeros(shape))


def test_an_empty_prompt_is_named_by_both_ways_to_generate():
    for generate in (generate_cached, generate_recomputing):
        with pytest.raises(ValueError, match="at least one token"):
            generate(small(), np.zeros((0, 16)), 3)
        with pytest.raises(ValueError, match="tokens must be a whole number, 1 or more; got 0"):
            generate(small(), noise(2, 16), 0)


def test_a_step_takes_one_token():
    layer = small()
    with pytest.raises(ValueError, match=r"^x must be one token of shape \(16,\); got an array of shape \(1, 16\)$"):
        layer.step(np.zeros((1, 16)), layer.new_cache())


@pytest.mark.parametrize(
    "other",
    [
        small(kv_heads=1),
        small(window=4),
        LatentAttention.random(np.random.default_rng(0), width=16, heads=4, head_dim=8, rank=8, rope_dim=4),
    ],
    ids=repr,
)
def test_a_cache_of_another_layer_is_refused_and_left_alone(other):
    cache = other.new_cache()
    with pytest.raises(ValueError, match=r"^cache must be this layer's new_cache\(\), with rows"):
        small().attend(noise(2, 16), cache)
    assert cache.seen == cache.held == 0


def test_bad_caches_are_named():
    with pytest.raises(ValueError, match="dtype must be one of float16, float32, float64; got 'int8'"):
        small().new_cache("int8")
    with pytest.raises(ValueError, match="window must be a whole number, 1 or more; got 0"):
        Cache({"keys": (1, 1)}, "float32", window=0)


def test_layers_say_what_they_are():
    assert repr(small()) == "GQA: 4 query heads, 2 KV heads x 8, width 16"
    assert repr(small(kv_heads=4)).startswith("MHA: ")
    assert repr(small(kv_heads=1, window=5)) == "MQA: 4 query heads, 1 KV heads x 8, width 16, window 5"
    assert repr(small(heads=1, kv_heads=1)).startswith("MHA: 1 query heads")
