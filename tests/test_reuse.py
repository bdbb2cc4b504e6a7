import hashlib
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvlib as kv
from kvlib.radix import RadixCache
from kvlib.reuse import BlockCache, prefix_block
from kvlib.sessions import conversation

HASHES = {
    "good": lambda key: hashlib.sha256(repr(key).encode()).digest(),
    "one bit": lambda key: hashlib.sha256(repr(key).encode()).digest()[0] & 1,
    "constant": lambda key: 0,
    "blind to the parent": lambda key: hash(key[1]),
    "blind to the tokens": lambda key: len(key[1]),
}


def common(first, second):
    length = 0
    while length < min(len(first), len(second)) and first[length] == second[length]:
        length += 1
    return length


# Few tokens, so that prompts often agree in the middle after they have differed, and often begin alike.
prompts = st.lists(st.lists(st.integers(0, 1), max_size=14), max_size=14)
salted = st.lists(
    st.tuples(st.lists(st.integers(0, 1), max_size=12), st.sampled_from([None, "mine", "yours"])), max_size=14
)


# ---------------------------------------------------------------- a hit never has another prefix


@given(salted, st.sampled_from(sorted(HASHES)), st.integers(1, 4), st.integers(0, 12))
@settings(max_examples=400)
def test_a_hit_never_returns_a_block_whose_prefix_differs(requests, name, block, budget):
    """Whatever collides: what is found was served before, to the same tenant, with the same tokens before it."""
    cache = BlockCache(block, 10, budget * 10, hash_function=HASHES[name])
    for place, (tokens, salt) in enumerate(requests):
        hit = cache.serve(tokens, salt)
        earlier = [common(tokens, old) for old, owner in requests[:place] if owner == salt]
        assert hit % block == 0
        assert hit <= max(earlier, default=0)
        assert hit < len(tokens) or hit == 0
        assert cache.used_bytes <= budget * 10


@given(salted, st.integers(0, 30))
@settings(max_examples=300)
def test_nor_does_the_tree(requests, budget):
    tree = RadixCache(10, budget * 10)
    for place, (tokens, salt) in enumerate(requests):
        hit = tree.serve(tokens, salt)
        earlier = [common(tokens, old) for old, owner in requests[:place] if owner == salt]
        assert hit <= max(earlier, default=0)
        assert hit < len(tokens) or hit == 0
        assert tree.used_bytes <= budget * 10
        check_tree(tree)


def check_tree(tree):
    held = 0
    for root in tree._roots.values():
        open_nodes = [root]
        while open_nodes:
            node = open_nodes.pop()
            held += len(node.tokens)
            for first, child in node.children.items():
                assert child.tokens[0] == first and child.parent is node
            open_nodes += node.children.values()
    assert held * tree.token_bytes == tree.used_bytes


def test_a_hash_that_is_trusted_hands_out_a_strangers_cache():
    """Why the tests above can fail: without the comparison a collision is a hit."""
    trusting = BlockCache(2, 1, 100, hash_function=HASHES["constant"], verify=False)
    trusting.serve([1, 1, 1])
    assert trusting.lookup([2, 2, 2]) == 2
    blind = BlockCache(2, 1, 100, hash_function=HASHES["blind to the parent"], verify=False)
    blind.serve([1, 1, 5, 5, 9])
    assert blind.lookup([5, 5, 1]) == 2  # the right tokens after the wrong prefix
    assert BlockCache(2, 1, 100, hash_function=HASHES["blind to the parent"]).lookup([5, 5, 1]) == 0


# ---------------------------------------------------------------- without a limit everything is found


@given(prompts, st.integers(1, 4), st.sampled_from(sorted(HASHES)))
@settings(max_examples=200)
def test_an_unlimited_cache_finds_every_full_block_of_the_longest_common_prefix(requests, block, name):
    cache = BlockCache(block, 1, 10**6, hash_function=HASHES[name])
    for place, tokens in enumerate(requests):
        best = max((common(tokens, old) for old in requests[:place]), default=0)
        expected = min(best, max(0, len(tokens) - 1)) // block * block
        assert cache.lookup(tokens) == cache.serve(tokens) == expected
    assert cache.tally.prompt_tokens == sum(map(len, requests)) and cache.tally.evicted_tokens == 0


@given(prompts)
@settings(max_examples=200)
def test_an_unlimited_tree_finds_every_token_of_it(requests):
    tree = RadixCache(1, 10**6)
    for place, tokens in enumerate(requests):
        best = max((common(tokens, old) for old in requests[:place]), default=0)
        assert tree.lookup(tokens) == tree.serve(tokens) == min(best, max(0, len(tokens) - 1))
    distinct = {tuple(tokens[: n + 1]) for tokens in requests for n in range(len(tokens))}
    assert tree.used_bytes == len(distinct)


@given(prompts, st.integers(0, 20))
def test_with_blocks_of_one_token_a_block_cache_forgets_single_tokens(requests, budget):
    """The most recent `budget` prefixes, the shorter before the longer of the same prompt: listed outright."""
    cache, recent = BlockCache(1, 1, budget), []
    for tokens in requests:
        chain = [tuple(tokens[: n + 1]) for n in range(len(tokens))]
        there = 0
        while there < len(chain) and chain[there] in recent[:budget]:
            there += 1
        assert cache.serve(tokens) == min(there, max(0, len(tokens) - 1))
        recent = chain + [old for old in recent if old not in chain]


def test_the_least_recently_used_leaf_goes_first():
    tree = RadixCache(1, 8)
    tree.serve("aabb")
    tree.serve("aacc")  # aa + bb + cc: 6 tokens
    tree.serve("aabb")
    assert tree.used_bytes == 6
    tree.serve("dddd")  # 10: cc is forgotten, not bb, and not the aa that both need
    assert (tree.lookup("aaccx"), tree.lookup("aabbx"), tree.lookup("ddddx")) == (2, 4, 4)
    assert tree.tally.evicted_tokens == 2 and tree.tally.hit_tokens == 2 + 3


def test_a_prompt_larger_than_the_budget_leaves_its_beginning():
    cache, tree = BlockCache(2, 5, 25), RadixCache(1, 5)
    assert cache.serve(range(100)) == tree.serve(range(100)) == 0
    assert cache.lookup(range(100)) == 10 and cache.used_bytes == 25
    assert tree.lookup(range(100)) == 5
    nothing = BlockCache(2, 5, 4)
    assert [nothing.serve([1, 2, 3]) for _ in range(3)] == [0, 0, 0]


def test_one_token_is_always_left_to_compute():
    cache, tree = BlockCache(4, 1, 100), RadixCache(1, 100)
    for tokens in ([1] * 8, [1] * 8, [1] * 9):
        cache.serve(tokens)
        tree.serve(tokens)
    assert cache.tally.hit_tokens == 0 + 4 + 8
    assert tree.tally.hit_tokens == 0 + 7 + 8
    assert round(cache.tally.hit_rate, 6) == round(12 / 25, 6)


# ---------------------------------------------------------------- the blocks of real models


@pytest.mark.parametrize(
    ("name", "settings_", "tokens"),
    [  # from start-up logs: `Setting attention block size to ... tokens`
        ("qwen3.5-27b", {}, 784),
        ("qwen3.5-27b", {"kv_dtype": "fp8"}, 1_568),
        ("nemotron-3-nano-30b-a3b", {}, 2_096),
        ("llama-3.1-8b", {}, 16),
        ("deepseek-v3", {}, 64),
    ],
)
def test_the_step_of_reuse(name, settings_, tokens):
    assert prefix_block(kv.model(name), **settings_).tokens == tokens


@pytest.mark.parametrize("name", ["llama-3.1-8b", "llama-3.1-70b", "deepseek-v3", "qwen3-30b-a3b", "mixtral-8x22b"])
@pytest.mark.parametrize("kv_dtype", ["bf16", "fp8"])
def test_the_bytes_of_a_uniform_model_are_those_of_its_cache(name, kv_dtype):
    model = kv.model(name)
    unit = prefix_block(model, kv_dtype=kv_dtype)
    assert unit.bytes == model.cache_bytes(unit.tokens, kv_dtype)


@pytest.mark.parametrize("name", ["gemma-3-27b", "gpt-oss-120b", "qwen3.5-27b", "llama-4-scout"])
def test_the_bytes_of_a_mixed_model_hold_at_least_its_cache(name):
    model = kv.model(name)
    unit = prefix_block(model)
    assert unit.bytes >= 0.99 * model.cache_bytes(unit.tokens)  # an engine's convolution window is one input shorter


def test_a_prefix_shorter_than_one_block_saves_nothing():
    model = kv.model("qwen3.5-27b")
    for document, hit in ((700, 0), (783, 0), (784, 784), (1_567, 784), (1_568, 1_568)):
        cache = BlockCache.of(model, 2**40)
        for question in ("a", "b"):
            cache.serve([("document", n) for n in range(document)] + [question] * 50)
        assert cache.tally.hit_tokens == hit
        fine = BlockCache.of(kv.model("qwen3-32b"), 2**40)
        for question in ("a", "b"):
            fine.serve([("document", n) for n in range(document)] + [question] * 50)
        assert fine.tally.hit_tokens == document // 16 * 16


def test_a_budget_in_bytes_holds_as_many_tokens_as_the_model_says():
    model = kv.model("llama-3.1-8b")  # 131,072 B per token
    cache, tree = BlockCache.of(model, 2**30), RadixCache.of(model, 2**30)
    cache.serve(range(20_000))
    tree.serve(range(20_000))
    assert cache.lookup(range(20_000)) == tree.lookup(range(20_000)) == 8_192
    assert cache.used_bytes == tree.used_bytes == 2**30


def test_a_state_cannot_be_cut_into_tokens():
    with pytest.raises(ValueError, match=r"model must keep every token; qwen3\.5-27b has recurrent"):
        RadixCache.of(kv.model("qwen3.5-27b"), 2**30)
    with pytest.raises(ValueError, match="state_mode must be"):
        prefix_block(kv.model("qwen3.5-27b"), state_mode="none")


def test_a_conversation_hits_all_but_what_is_new():
    cache = BlockCache(16, 1, 10**6)
    rows = conversation(1_000, 20, 30, 4)
    hits = [cache.serve(row.token_ids()) for row in rows]
    assert hits == [0, *(old.tokens // 16 * 16 for old, _ in pairwise(rows))]


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="block_tokens must be a whole number, 1 or more; got 0"):
        BlockCache(0, 1, 1)
    with pytest.raises(ValueError, match="budget_bytes must be a whole number, 0 or more; got -1"):
        RadixCache(1, -1)
    with pytest.raises(ValueError, match="token_bytes must be a whole number, 1 or more; got 0"):
        RadixCache(0, 1)
