"""Counted work is what the matrices cost: linear in the context with a cache, quadratic without."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlib.lab import work as work_module
from kvlib.lab.attention import Attention, generate_cached, generate_recomputing
from kvlib.lab.latent import LatentAttention
from kvlib.lab.work import TokenCost, Work, next_token, timed

RNG = np.random.default_rng(0)
GQA = Attention.random(RNG, width=64, heads=8, kv_heads=2, head_dim=16)
MLA = LatentAttention.random(RNG, width=64, heads=8, head_dim=16, rank=32, rope_dim=8)


def adds(layer, context, cached):
    return next_token(layer, context, cached=cached, rng=np.random.default_rng(0), repeats=1).multiply_adds


def gqa_by_hand(tokens, cached):
    """W=64, 8 query heads and 2 KV heads of 16: the last token's work, or everybody's."""
    projections = 64 * 8 * 16 + 2 * (64 * 2 * 16) + 8 * 16 * 64
    per_pair = 8 * 16 + 8 * 16  # a score and a share of a value, per query head
    return projections + tokens * per_pair if cached else tokens * projections + tokens**2 * per_pair


def mla_by_hand(tokens, cached):
    """W=64, 8 heads of 16 + 8 rotary, latent of 32."""
    projections = 64 * 8 * (16 + 8) + 64 * 32 + 64 * 8 + 8 * 16 * 64
    if cached:
        return projections + 2 * (8 * 16 * 32) + tokens * 8 * (32 + 8 + 32)
    return tokens * (projections + 2 * (32 * 8 * 16)) + tokens**2 * 8 * (16 + 8 + 16)


@pytest.mark.parametrize(("layer", "by_hand"), [(GQA, gqa_by_hand), (MLA, mla_by_hand)], ids=["GQA", "MLA"])
@pytest.mark.parametrize("context", [1, 2, 63, 200])
@pytest.mark.parametrize("cached", [True, False])
def test_the_count_is_the_one_done_by_hand(layer, by_hand, context, cached):
    assert adds(layer, context, cached) == by_hand(context + 1, cached)


@pytest.mark.parametrize("layer", [GQA, MLA], ids=["GQA", "MLA"])
def test_work_per_token_is_linear_with_a_cache_and_quadratic_without(layer):
    contexts = [40, 80, 120, 160]
    linear = np.diff([adds(layer, context, True) for context in contexts])
    quadratic = np.diff([adds(layer, context, False) for context in contexts])
    assert len(set(linear)) == 1
    assert len(set(np.diff(quadratic))) == 1
    assert np.diff(quadratic)[0] > 0
    assert adds(layer, 300, False) > 150 * adds(layer, 300, True)


def test_a_window_makes_the_work_per_token_constant():
    layer = Attention.random(RNG, width=64, heads=8, kv_heads=2, head_dim=16, window=50)
    assert adds(layer, 49, True) == adds(layer, 50, True) == adds(layer, 500, True) == gqa_by_hand(50, True)


def test_a_whole_generation_adds_up():
    prompt, tokens = np.ones((10, 64)), 25
    with_cache, without = Work(), Work()
    generate_cached(GQA, prompt, tokens, with_cache)
    generate_recomputing(GQA, prompt, tokens, without)
    prefill = gqa_by_hand(10, cached=False)
    assert with_cache.total == prefill + sum(gqa_by_hand(length, cached=True) for length in range(11, 35))
    assert without.total == sum(gqa_by_hand(length, cached=False) for length in range(10, 35))


@given(st.lists(st.integers(1, 4), max_size=2), st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))
def test_a_product_is_counted_one_multiply_add_at_a_time(stack, rows, inner, columns):
    a, b, work = np.ones((*stack, rows, inner)), np.ones((inner, columns)), Work()
    product = work.matmul("any", a, b)
    assert work.total == product.sum(), "with ones, every multiply-add contributes exactly 1 to the result"


def test_parts_add_up_and_are_shown():
    work = Work()
    assert repr(work) == "0 multiply-adds"
    GQA.attend(np.ones((1, 64)), work=work)
    assert sum(work.by_part.values()) == work.total
    assert repr(work) == "20,736 multiply-adds = projections 20,480 + scores 128 + mixing 128"


def test_counting_repeats_exactly_and_a_cost_has_plain_numbers():
    first, again = (next_token(GQA, 20, cached=True, rng=np.random.default_rng(seed)) for seed in (1, 2))
    assert isinstance(first, TokenCost)
    assert first.context == 20
    assert first.multiply_adds == again.multiply_adds
    assert type(first.seconds) is float
    assert first.seconds > 0


def test_timing_keeps_the_best_run(monkeypatch):
    ticks = iter([0.0, 5.0, 10.0, 12.0, 20.0, 29.0])
    monkeypatch.setattr(work_module.time, "perf_counter", lambda: next(ticks))
    runs = []
    assert timed(lambda: runs.append(1), repeats=3) == 2.0
    assert len(runs) == 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: next_token(GQA, 0, cached=True, rng=RNG), "context must be a whole number, 1 or more; got 0"),
        (lambda: next_token(GQA, 2.5, cached=True, rng=RNG), "context must be a whole number, 1 or more; got 2.5"),
        (lambda: next_token(GQA, 9, cached=True, rng=RNG, repeats=0), "repeats must be a whole number, 1 or more"),
        (lambda: timed(lambda: None, repeats=0), "repeats must be a whole number, 1 or more; got 0"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
