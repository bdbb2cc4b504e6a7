"""The numpy transformer: same answer with a cache, work as the formulas count it, predictions by hand."""

import numpy as np
import pytest

from kvlib.flops import decode_flops, prefill_attention_flops, prefill_flops
from kvlib.lab.machine import Machine, Rate, probes
from kvlib.lab.transformer import Comparison, Prediction, Transformer, predict_decode, predict_prefill, race
from kvlib.lab.work import Work

SIZES = {"layers": 3, "width": 32, "heads": 4, "kv_heads": 2, "mlp": 48, "vocabulary": 20}
SMALL = Transformer.random(np.random.default_rng(0), **SIZES)
NORMS = (2 * 3 + 1) * 32  # weights that this transformer does not have


def prompt(tokens):
    return np.random.default_rng(1).standard_normal((tokens, 32), dtype=np.float32)


def at(rate):
    return Rate("x", "B", rate, rate / 2, rate * 2, 1)


def test_decode_step_by_step_gives_the_logits_of_one_prefill():
    x, caches = prompt(7), SMALL.new_caches()
    SMALL.forward(x[:4], caches)
    for token in x[4:]:
        stepped = SMALL.forward(token[None], caches)
    assert stepped == pytest.approx(SMALL.forward(x, SMALL.new_caches()), rel=1e-3, abs=1e-4)


def test_model_counts_the_arrays_that_are_there():
    arrays = [SMALL.head]
    for block in SMALL.blocks:
        attention = block.attention
        arrays += [attention.query, attention.key, attention.value, attention.output, block.gate, block.up, block.down]
    assert SMALL.model.parameters == sum(array.size for array in arrays)


@pytest.mark.parametrize("tokens", [1, 2, 9])
def test_counted_work_of_a_prefill_is_the_formula_with_the_masked_half(tokens):
    work, caches = Work(), SMALL.new_caches()
    SMALL.forward(prompt(tokens), caches, work)
    square = 3 * tokens**2 * 4 * 4 * 8  # numpy works out every pair, then masks
    causal = prefill_attention_flops(SMALL.model, tokens)
    assert 2 * work.total == prefill_flops(SMALL.model, tokens) - causal + square
    extra = dict(predict_prefill(SMALL, tokens, Machine(at(1), at(1), at(1))).besides)
    assert extra["the masked half of the scores"] == square - causal


def test_counted_work_of_a_decode_step_is_the_formula():
    caches = SMALL.new_caches()
    SMALL.forward(prompt(6), caches)
    SMALL.forward(prompt(1), caches, work := Work())
    assert 2 * work.total == decode_flops(SMALL.model, 7)


def test_prediction_of_decode_is_bytes_over_bandwidth():
    machine = Machine(copy=at(100.0), matvec=at(50.0), matmul=at(1e12))
    caches = SMALL.new_caches()
    SMALL.forward(prompt(11), caches)
    cache = sum(cache.nbytes for cache in caches)
    found = predict_decode(SMALL, 11, machine)
    assert found.roofline == pytest.approx((4 * SMALL.model.parameters + cache) / 50)
    assert dict(found.besides) == {"copying the cache": pytest.approx(2 * cache / 100)}
    slow = Machine(copy=at(100.0), matvec=at(1e12), matmul=at(10.0))
    assert predict_decode(SMALL, 11, slow).roofline == pytest.approx(decode_flops(SMALL.model, 11) / 10)


def test_race_compares_predictions_with_the_clock():
    ticks = iter(range(10**6))
    found = race(SMALL, 8, runs=3, tests=probes(2**16, 16), clock=lambda: float(next(ticks)))  # every run lasts 1 s
    assert found.machine.matmul.median == 2 * 16**3
    assert found.prefill.median == found.decode.fastest == found.decode.slowest == 1
    assert found.prefill.prediction.roofline == pytest.approx(prefill_flops(SMALL.model, 8) / (2 * 16**3))
    assert found.decode.prediction.tokens == 8 + 1 + 2  # warm-up, then the second of three timed steps


def test_ratio_and_verdict():
    found = Comparison(Prediction("decode", 10, 2.0, (("copying", 1.0),)), median=3.0, fastest=2.0, slowest=9.0)
    assert found.ratio == 1.5 and found.explained == 1.0
    assert found.within(2) and not found.within(1.4)
    assert not Comparison(Prediction("decode", 10, 2.0, ()), 0.5, 0.5, 0.5).within(2)
    assert repr(found) == "decode at 10 tokens: 3,000.0 ms measured, 2,000.0 ms predicted, ratio 1.50"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"heads": 5}, "heads must divide the width 32; got 5"),
        ({"layers": 0}, "layers must be a whole number, 1 or more; got 0"),
        ({"mlp": -1}, "mlp must be a whole number, 1 or more; got -1"),
        ({"kv_heads": 3}, "kv_heads must divide the 4 heads"),
    ],
)
def test_bad_shapes_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        Transformer.random(np.random.default_rng(0), **{**SIZES, **wrong})


def test_a_race_needs_two_tokens():
    with pytest.raises(ValueError, match="tokens must be a whole number, 2 or more; got 1"):
        race(SMALL, 1)
