from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvlib.reuse import BlockCache
from kvlib.sessions import block_references, conversation
from kvlib.stack import count_below, hit_curve
from kvlib.synthetic import agents, chats


def lru_hits(stream, capacity):
    """The textbook: one reference at a time."""
    cache, hits = OrderedDict(), 0
    for block in stream:
        hits += block in cache
        cache[block] = None
        cache.move_to_end(block)
        while len(cache) > capacity:
            cache.popitem(last=False)
    return hits


def request_hits(requests, capacity):
    """Requests: look up an unbroken prefix, then use all blocks, the last one first."""
    cache, hits = OrderedDict(), 0
    for blocks in requests:
        for block in blocks:
            if block not in cache:
                break
            hits += 1
        for block in reversed(blocks):
            cache[block] = None
            cache.move_to_end(block)
            while len(cache) > capacity:
                cache.popitem(last=False)
    return hits


streams = st.lists(st.integers(0, 15), max_size=120)


@given(streams)
@settings(max_examples=300)
def test_a_stream_equals_a_simulation_for_every_capacity(stream):
    curve = hit_curve(np.array(stream, dtype=np.int64))
    assert curve.references == len(stream) and curve.distinct == len(set(stream))
    for capacity in range(len(set(stream)) + 2):
        assert curve.hits(capacity) == lru_hits(stream, capacity)


@given(st.lists(st.lists(st.integers(0, 12), max_size=8, unique=True), max_size=40))
@settings(max_examples=300)
def test_requests_equal_a_simulation_for_every_capacity_whatever_they_use(requests):
    curve = hit_curve(requests)
    for capacity in range(curve.distinct + 2):
        assert curve.hits(capacity) == request_hits(requests, capacity)


@given(st.lists(st.lists(st.integers(0, 2), max_size=9), max_size=25), st.integers(1, 3))
@settings(max_examples=200)
def test_prompts_equal_the_block_cache_of_an_engine_for_every_budget(prompts, block):
    """The two were written apart: one knows tokens, hashes and a budget, the other only numbers."""
    prompts = [[*prompt, ("end", n)] for n, prompt in enumerate(prompts)]  # the token that is always left to compute
    numbers, requests = {}, []
    for prompt in prompts:
        ends = range(block, len(prompt) + 1, block)
        requests.append([numbers.setdefault(tuple(prompt[:end]), len(numbers)) for end in ends])
    curve = hit_curve(requests)
    for capacity in range(len(numbers) + 2):
        cache = BlockCache(block, 7, 7 * capacity)
        assert sum(cache.serve(prompt) for prompt in prompts) == block * curve.hits(capacity)


def test_generated_traffic_equals_the_block_cache():
    rng = np.random.default_rng(6)
    rows = chats(rng, 12, system_tokens=200, per_second=0.2) + agents(rng, 2, steps=6, system_tokens=900)
    rows = [replace(row, parts=(*row.parts, (("end", n), 1))) for n, row in enumerate(rows)]
    requests = block_references(rows, 64)
    curve = hit_curve(requests)
    assert curve.distinct > 100
    for capacity in (0, 1, 5, 20, 60, 150, curve.distinct):
        cache = BlockCache(64, 1, capacity)
        for row in rows:
            cache.serve(row.token_ids())
        assert cache.tally.hit_tokens == 64 * curve.hits(capacity)


@given(streams, st.lists(st.tuples(st.integers(0, 120), st.integers(0, 20)), min_size=1, max_size=20))
def test_count_below_equals_counting(stream, queries):
    ends = np.array([min(end, len(stream)) for end, _ in queries])
    limits = np.array([limit for _, limit in queries])
    counted = count_below(np.array(stream, dtype=np.int64), ends, limits)
    assert counted.tolist() == [
        sum(value < limit for value in stream[:end]) for end, limit in zip(ends, limits, strict=True)
    ]


def test_a_curve_by_hand():
    curve = hit_curve(np.array([1, 2, 3, 1, 1, 2]))  # distances: first three new, then 3, 1, 3
    assert curve.needed.tolist() == [0, 0, 0, 3, 1, 3]
    assert curve.hits(np.array([0, 1, 2, 3, 99])).tolist() == [0, 1, 1, 3, 3]
    assert curve.rate(3) == 0.5 and curve.rate(0) == 0
    assert (curve.capacity_for(0), curve.capacity_for(0.2), curve.capacity_for(0.5)) == (0, 3, 3)
    assert curve.capacity_for(0.51) is None


def test_a_request_that_comes_again_needs_room_for_all_of_it_only_at_its_end():
    curve = hit_curve([[1, 2, 3], [1, 2, 3]])
    assert curve.needed.tolist() == [0, 0, 0, 1, 2, 3]


def test_hits_can_be_counted_in_tokens():
    """A prompt's last block is part empty, so blocks and tokens give different rates."""
    curve = hit_curve([[1, 2], [1, 2], [3]], [[512, 88], [512, 88], [400]])
    assert (curve.references, curve.total, curve.distinct) == (5, 1_600, 3)
    assert curve.hits(np.arange(4)).tolist() == [0, 512, 600, 600]
    assert curve.rate(3) == 600 / 1_600 != hit_curve([[1, 2], [1, 2], [3]]).rate(3) == 2 / 5
    assert curve.capacity_for(0.33) == 2
    for tokens in ([[512], [512, 88], [400]], [[512, 88], [512, -1], [400]], [[512, 88]]):
        with pytest.raises(ValueError, match="tokens must have one number, 0 or more, for each block"):
            hit_curve([[1, 2], [1, 2], [3]], tokens)


def test_a_cache_never_gets_worse_by_being_larger():
    rng = np.random.default_rng(1)
    hits = hit_curve(rng.zipf(1.3, 20_000) % 3_000).hits(np.arange(3_000))
    assert (np.diff(hits) >= 0).all() and hits[0] == 0 and hits[-1] > hits[1] > 0


def test_blocks_are_numbered_by_everything_before_them():
    rows = conversation(100, 10, 10, 2, name="a") + conversation(100, 10, 10, 1, name="b")
    first, second, third = block_references(rows, 16)
    assert len(first) == len(third) == 110 // 16 and len(second) == 130 // 16
    assert second[:6] == first and not set(third) & set(first + second)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="requests must not use a block twice; request 1 does"):
        hit_curve([[1, 2], [3, 4, 3]])
    with pytest.raises(ValueError, match="requests must be sequences of whole block numbers"):
        hit_curve([[1, "a"]])
    with pytest.raises(ValueError, match="requests must be sequences"):
        hit_curve([1, 2])
    with pytest.raises(ValueError, match="capacity must be a whole number, 0 or more; got -1"):
        hit_curve([[1]]).hits(-1)
    with pytest.raises(ValueError, match="rate must be between 0 and 1; got 2"):
        hit_curve([[1]]).capacity_for(2)
    empty = hit_curve([])
    assert (empty.references, empty.hits(5), empty.rate(5)) == (0, 0, 0)
    assert hit_curve([[], []]).references == 0
