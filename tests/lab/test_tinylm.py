"""The tiny model: equal to a loop over single numbers, however it is cut, cached or forked; bytes as kvlib counts."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from train_needle import loss_and_gradients

from kvlib.lab import tinylm
from kvlib.lab.asking import shares
from kvlib.lab.tinylm import SCHEMES, SHAPES, Reading, TinyLM, load, load_weights, save_weights

LENGTHS = [1, 2, 15, 16, 17, 31, 32, 33, 47, 100, 1000]


def random_weights(seed=0, dtype="float32"):
    """Of the scale that training starts from: equal words attract each other in the global layer, 4 against 0 +- 1."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in SHAPES.items():
        if "gain" in name:
            weights[name] = rng.uniform(0.8, 1.2, shape)
        elif name in ("embedding", "local_bias"):
            weights[name] = rng.standard_normal(shape)
        else:
            weights[name] = rng.standard_normal(shape) / shape[1] ** 0.5
    weights["k1"], weights["o1"] = weights["q1"].copy(), weights["v1"].T.copy()
    return {name: weight.astype(dtype) for name, weight in weights.items()}


MODELS = {scheme: TinyLM(random_weights(), scheme) for scheme in SCHEMES}
DOUBLE = {scheme: TinyLM(random_weights(dtype="float64"), scheme) for scheme in SCHEMES}
NOPE = MODELS["nope"]


def words(*shape, seed=1):
    return np.random.default_rng(seed).integers(0, 433, shape)


def same(found, expected, tolerance=1e-5):
    """Equal within `tolerance` of the largest logit."""
    return found.shape == expected.shape and abs(found - expected).max() < tolerance * abs(expected).max()


def by_hand(weights, scheme, ids):
    """Logits after each token, one query, one head, one earlier token at a time."""

    def norm(x, gain):
        return x / (np.mean(x**2) + 1e-6) ** 0.5 * gain

    def turned(vector, position):
        points = (vector[:8] + 1j * vector[8:]) * np.exp(1j * position * 10_000.0 ** (-np.arange(8) / 8))
        return np.concatenate([points.real, points.imag])

    def score(block, head, query, key, now, then):
        if block == 0:
            return query @ key / 4 + weights["local_bias"][head, now - then]
        if scheme == "rope":
            query, key = turned(query, now), turned(key, then)
        return query @ key / 4 - (now - then) * 4.0 ** -(head + 1) * (scheme == "alibi")

    stream = [weights["embedding"][word] for word in ids]
    for block in (0, 1):
        normed = [norm(x, weights[f"attention_gain{block}"]) for x in stream]
        queries, keys, values = ([weights[f"{name}{block}"] @ x for x in normed] for name in "qkv")
        after = []
        for now in range(len(ids)):
            past = range(max(0, now - 15), now + 1) if block == 0 else range(now + 1)
            parts = []
            for head in range(4):
                own = slice(16 * head, 16 * head + 16)
                scores = [score(block, head, queries[now][own], keys[then][own], now, then) for then in past]
                attention = np.exp(scores) / np.exp(scores).sum()
                parts.append(sum(share * values[then][own] for share, then in zip(attention, past, strict=True)))
            x = stream[now] + weights[f"o{block}"] @ np.concatenate(parts)
            hidden = weights[f"up{block}"] @ norm(x, weights[f"mlp_gain{block}"])
            after.append(x + weights[f"down{block}"] @ np.where(hidden > 0, hidden, 0))
        stream = after
    return np.array([weights["head"] @ norm(x, weights["final_gain"]) for x in stream])


# ---------------------------------------------------------------- the same answer, however it is computed


@pytest.mark.parametrize("scheme", SCHEMES)
def test_logits_are_those_of_a_loop_over_single_numbers(scheme):
    model, ids = DOUBLE[scheme], words(53)
    assert same(model.logits(ids)[0], by_hand(model.weights, scheme, ids), 1e-12)


def test_the_three_schemes_differ():
    ids = words(40)
    nope, alibi, rope = (MODELS[scheme].logits(ids) for scheme in SCHEMES)
    assert not same(nope, alibi, 1e-2) and not same(nope, rope, 1e-2) and not same(alibi, rope, 1e-2)


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_any_pieces_in_any_chunks_give_the_logits_of_one_pass(scheme, data):
    models, tolerance = data.draw(st.sampled_from([(MODELS, 1e-5), (DOUBLE, 1e-12)]))
    batch, tokens = data.draw(st.integers(1, 3)), data.draw(st.integers(2, 90))
    cuts = sorted(data.draw(st.sets(st.integers(1, tokens - 1), min_size=1, max_size=5)))
    model, ids, cache = models[scheme], words(batch, tokens, seed=tokens), None
    *pieces, question = np.split(ids, cuts, axis=1)
    for piece in pieces:
        cache = model.prefill(piece, cache, chunk=data.draw(st.integers(1, 200)))
    found = model.read(cache, question)
    assert cache.tokens == tokens
    assert same(found.logits, model.logits(ids, chunk=batch * tokens)[:, -1], tolerance)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_decode_token_by_token_gives_the_logits_of_one_pass(scheme):
    model, ids = MODELS[scheme], words(70)
    cache = model.prefill(ids[:20])
    found = [model.read(cache, word[None]).logits for word in ids[20:]]
    assert same(np.concatenate(found), model.logits(ids)[0, 20:])


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("prefix", [1, 15, 16, 61])
def test_forks_go_their_own_ways_from_one_prefix(scheme, prefix):
    model, text, ends = MODELS[scheme], words(prefix), words(3, 12, seed=2)
    parent = model.prefill(text[-1:], model.prefill(text[:-1]) if prefix > 1 else None)
    fork = parent.fork(3)
    expected = [model.logits(np.concatenate([text, end]))[0] for end in ends]
    assert same(model.read(fork, ends[:, :9]).logits, np.array([logits[-4] for logits in expected]))
    # Meanwhile the parent goes on too, in the room behind the shared rows.
    assert same(model.read(parent, ends[1]).logits[0], expected[1][-1])
    assert same(model.read(fork, ends[:, 9:]).logits, np.array([logits[-1] for logits in expected]))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_fork_of_a_fork_goes_on_as_well(scheme):
    model, ids = MODELS[scheme], words(40)
    cache = model.prefill(ids[:20]).fork(1)
    model.prefill(ids[20:30], cache)
    fork = cache.fork(2)
    found = model.read(fork, np.stack([ids[30:], ids[30:]])).logits
    assert same(found, np.repeat(model.logits(ids)[:, -1], 2, axis=0))
    assert cache.tokens == 30 and fork.tokens == 40


def test_sequences_of_a_batch_do_not_meet():
    ids = words(3, 45)
    together = NOPE.read(NOPE.prefill(ids[:, :36]), ids[:, 36:])
    for row, logits, attention in zip(ids, together.logits, together.attention, strict=True):
        alone = NOPE.read(NOPE.prefill(row[:36]), row[36:])
        assert same(logits, alone.logits[0]) and attention == pytest.approx(alone.attention[0], abs=1e-6)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_token_sees_a_later_one(scheme):
    ids = words(60)
    other = np.concatenate([ids[:30], words(30, seed=3)])
    before, after = MODELS[scheme].logits(ids)[0], MODELS[scheme].logits(other)[0]
    assert same(after[:30], before[:30], 1e-6) and not same(after[30:], before[30:], 1e-2)


@pytest.mark.parametrize(("distance", "seen"), [(0, True), (1, True), (15, True), (16, False), (40, False)])
def test_the_local_layer_sees_sixteen_tokens(distance, seen):
    local_only = TinyLM({**random_weights(), "o1": np.zeros((64, 64), np.float32)})
    ids = words(60)
    other = ids.copy()
    other[50 - distance] = (other[50 - distance] + 1) % 433
    assert same(local_only.logits(other)[0, 50], local_only.logits(ids)[0, 50], 1e-6) is not seen


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_trainer_trains_this_network(scheme):
    ids, targets = words(2, 80), words(2, 80, seed=2)
    counted = np.random.default_rng(3).random((2, 80))
    logits = DOUBLE[scheme].logits(ids)
    surprise = np.log(np.exp(logits).sum(axis=-1)) - np.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    loss, _ = loss_and_gradients(DOUBLE[scheme].weights, scheme, ids, targets, counted)
    assert loss == pytest.approx((counted * surprise).sum(), rel=1e-10)


# ---------------------------------------------------------------- what is stored


def test_it_has_154_112_weights():
    assert NOPE.parameters == NOPE.model.parameters == 154_112
    block = 4 * 64 * 64 + 2 * 64 * 256 + 2 * 64
    assert NOPE.parameters == 2 * 433 * 64 + 2 * block + 4 * 16 + 64


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("tokens", LENGTHS)
def test_a_cache_has_the_bytes_that_kvlib_counts(scheme, tokens):
    model = MODELS[scheme]
    assert model.prefill(words(tokens)).nbytes == model.model.cache_bytes(tokens, "fp32")
    assert model.prefill(words(3, tokens), chunk=50).nbytes == 3 * model.model.cache_bytes(tokens, "fp32")


def test_a_cache_has_these_bytes_after_every_step_of_decode():
    cache = NOPE.prefill([5])
    for tokens in range(2, 40):
        NOPE.read(cache, [tokens])
        assert cache.nbytes == NOPE.model.cache_bytes(tokens, "fp32")


def test_8192_tokens_are_4_mib_and_a_window():
    assert NOPE.prefill(words(8192)).nbytes == 4_194_304 + 8_192
    assert DOUBLE["nope"].prefill(words(100)).nbytes == 2 * NOPE.model.cache_bytes(100, "fp32")


def test_the_arrays_of_a_cache_are_what_is_counted():
    cache = NOPE.prefill(words(50)).fork(2)
    NOPE.read(cache, words(2, 7))
    assert cache.local.shape == (2, 16, 2, 4, 16)  # sequences, tokens, key and value, heads, numbers
    assert cache.shared.shape == (2, 4, 50, 16) and cache.own.shape == (2, 2, 4, 7, 16)
    assert cache.nbytes == 4 * (2 * 16 * 128 + 50 * 128 + 2 * 7 * 128)
    assert repr(cache) == "2 x 57 tokens, 50 of them shared: 49.2 kB (48 KiB)"


def test_the_keys_of_one_token_stand_where_they_should():
    """Token 2's key and value in the global layer, worked out from its own stream, alone."""
    model, ids = TinyLM({**random_weights(), "o0": np.zeros((64, 64), np.float32)}), [7, 8, 9]
    w, x = model.weights, model.weights["embedding"][9]
    hidden = np.maximum(w["up0"] @ (x / (np.mean(x**2) + 1e-6) ** 0.5 * w["mlp_gain0"]), 0)
    x = x + w["down0"] @ hidden
    x = x / (np.mean(x**2) + 1e-6) ** 0.5 * w["attention_gain1"]
    key, value = model.prefill(ids).own[0, :, :, 2]
    assert key.ravel() == pytest.approx(w["k1"] @ x, abs=1e-5)
    assert value.ravel() == pytest.approx(w["v1"] @ x, abs=1e-5)


def test_a_fork_stores_the_prefix_once():
    parent = NOPE.prefill(words(200))
    fork = parent.fork(9)
    assert np.shares_memory(fork.shared, parent.own)
    NOPE.read(fork, words(9, 10))
    assert fork.nbytes == NOPE.model.growth("fp32") * (200 + 9 * 10) + 9 * 16 * 128 * 4


def test_room_for_growth_is_at_most_as_much_again():
    cache = NOPE.prefill(words(100))
    assert cache._room.shape[3] == 100
    moves, room = 0, cache._room
    for word in words(500):
        NOPE.prefill([word], cache)
        moves, room = moves + (cache._room is not room), cache._room
        assert room.shape[3] <= 2 * cache.tokens
    assert moves == 3  # 200, 400, 800: the cost of moving is shared by the tokens that come after


def test_nine_questions_from_one_prefix_are_answered_as_nine_prefills_answer_them():
    text, questions = words(2000), words(9, 9, seed=2)
    forked = NOPE.read(NOPE.prefill(text).fork(9), questions).logits
    assert same(forked, np.concatenate([NOPE.read(NOPE.prefill(text), question).logits for question in questions]))


# ---------------------------------------------------------------- reading


def looked(scheme="nope", **how):
    ids = words(64)
    return MODELS[scheme].read(MODELS[scheme].prefill(ids[:55]), ids[55:], **how)


def test_a_reading_holds_answer_and_attention():
    found = looked()
    assert found.logits.shape == (1, 433) and found.attention.shape == (1, 4, 64)
    assert found.attention.sum(axis=-1) == pytest.approx(1) and (found.attention > 0).all()
    assert found.answer.tolist() == [max(range(433), key=found.logits[0].tolist().__getitem__)]
    assert repr(found) == f"answers {found.answer.tolist()} after 64 tokens"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_temperature_raises_the_attention_to_a_power(scheme):
    plain, sharp = looked(scheme).attention.astype(float), looked(scheme, temperature=1.7).attention
    assert sharp == pytest.approx(plain**1.7 / (plain**1.7).sum(axis=-1, keepdims=True), abs=1e-5)
    assert same(looked(scheme, temperature=1.0).logits, looked(scheme).logits, 1e-7)


def test_top_keys_keeps_the_largest_and_shares_out_the_rest():
    plain, kept = looked().attention, looked(top_keys=5).attention
    for before, after in zip(plain[0], kept[0], strict=True):
        largest = sorted(range(64), key=lambda i: before[i])[-5:]
        assert sorted(np.flatnonzero(after)) == sorted(largest)
        assert after[largest] == pytest.approx(before[largest] / before[largest].sum(), rel=1e-4)


@pytest.mark.parametrize("top_keys", [64, 65, 10**6])
def test_as_many_keys_as_tokens_change_nothing(top_keys):
    assert (looked(top_keys=top_keys).logits == looked().logits).all()


def test_one_key_is_all_the_attention_even_among_equals():
    assert (np.sort(looked(top_keys=1).attention)[0] == [0] * 63 + [1]).all()
    assert (looked(top_keys=1).attention.argmax(axis=-1) == looked().attention.argmax(axis=-1)).all()
    echo = NOPE.read(NOPE.prefill([5] * 40), [5], top_keys=1).attention[0]
    assert (np.sort(echo) == [0] * 40 + [1]).all()


def test_shares_of_sentences():
    attention = np.array([[[0.5, 0.0, 0.25, 0.25], [0.1, 0.2, 0.3, 0.4]], [[0, 0, 0, 1], [0, 0, 0, 1]]])
    reading = Reading(np.zeros((2, 433)), attention)
    assert shares(reading, [(0, 1), (1, 3), (3, 4)]) == pytest.approx([0.3, 0.375, 0.325])
    assert shares(reading, [(0, 1), (1, 3), (3, 4)], sequence=1) == pytest.approx([0, 0, 1])
    assert shares(reading, [(2, 2)]) == pytest.approx([0]) and shares(reading, []).shape == (0,)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_removing_a_key_raises_the_others_by_what_it_had(scheme):
    """The law behind deleting a sentence: a share a gone, the others times 1 / (1 - a)."""
    all_but_one, plain = looked(scheme, top_keys=63).attention[0], looked(scheme).attention[0]
    least = plain.min(axis=-1, keepdims=True)
    assert all_but_one == pytest.approx(np.where(plain == least, 0, plain / (1 - least)), rel=1e-4)


# ---------------------------------------------------------------- files


def test_a_file_holds_16_bit_floats(tmp_path):
    weights = random_weights()
    save_weights(tmp_path / "w.npz", weights)
    found = load_weights(tmp_path / "w.npz")
    assert list(found) == list(weights) and {array.dtype for array in found.values()} == {np.dtype("float32")}
    assert all((found[name] == weights[name].astype(np.float16)).all() for name in SHAPES)
    assert 2 * 154_112 * 0.8 < (tmp_path / "w.npz").stat().st_size < 320_000
    assert same(TinyLM(found).logits(words(50)), NOPE.logits(words(50)), 0.01)
    save_weights(tmp_path / "again.npz", found)
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "w.npz").read_bytes()


@pytest.mark.parametrize("wrong", [70_000, np.nan])
def test_what_16_bits_cannot_hold_is_not_saved(tmp_path, wrong):
    weights = random_weights()
    weights["q1"][3, 4] = wrong
    with pytest.raises(ValueError, match=r"must be finite as 16-bit floats, at most 65,504 in size; 'q1' is not"):
        save_weights(tmp_path / "w.npz", weights)
    assert not (tmp_path / "w.npz").exists()


def published(folder, name="alibi"):
    save_weights(folder / f"{name}.npz", random_weights())
    found = hashlib.sha256((folder / f"{name}.npz").read_bytes()).hexdigest()
    (folder / "SHA256SUMS").write_text(f"{found}  {name}.npz\n", encoding="utf-8")


def test_a_published_model_is_loaded_once(tmp_path):
    published(tmp_path)
    model = load("alibi", tmp_path)
    assert model.scheme == "alibi" and model.dtype == np.float32
    assert (model.weights["head"] == random_weights()["head"].astype(np.float16)).all()
    assert load("alibi", tmp_path) is model
    with pytest.raises(ValueError, match="read-only"):
        model.weights["head"][0, 0] = 1


def test_a_file_that_was_changed_is_named(tmp_path):
    published(tmp_path)
    with (tmp_path / "alibi.npz").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=r"alibi\.npz is not the published file: its SHA-256 is [0-9a-f]{64}, not "):
        load("alibi", tmp_path)


def test_an_unknown_model_is_an_error(tmp_path):
    published(tmp_path)
    with pytest.raises(ValueError, match="name must be one of alibi; got 'rope'"):
        load("rope", tmp_path)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([], r"at least one token; got an array of shape \(0,\)"),
        (np.zeros((2, 0), int), r"at least one token; got an array of shape \(2, 0\)"),
        (5, "ids must have shape"),
        (np.zeros((1, 1, 1), int), "ids must have shape"),
        ([0, 433], "ids must be word ids, 0 to 432; got 433"),
        ([0, -1], "ids must be word ids, 0 to 432; got -1"),
        ([0.0, 1.0], "ids must be whole numbers; got an array of float64"),
        (["the"], "ids must be whole numbers"),
        ([[1], [2]], "ids must be for the cache's 1 sequences; got 2"),
    ],
)
def test_bad_ids_are_named_and_change_nothing(ids, message):
    cache = NOPE.prefill([1, 2, 3])
    for use in (lambda: NOPE.prefill(ids, cache), lambda: NOPE.read(cache, ids)):
        with pytest.raises(ValueError, match=message):
            use()
    assert cache.tokens == 3 and cache.local.shape[1] == 3


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"temperature": 0}, "temperature must be a number above 0; got 0"),
        ({"temperature": -1.0}, "temperature must be a number above 0; got -1.0"),
        ({"temperature": float("nan")}, "temperature must be a number above 0; got nan"),
        ({"temperature": float("inf")}, "temperature must be a number above 0; got inf"),
        ({"top_keys": 0}, "top_keys must be a whole number, 1 or more; got 0"),
        ({"top_keys": 2.5}, "top_keys must be a whole number, 1 or more; got 2.5"),
    ],
)
def test_bad_ways_to_read_are_named_and_change_nothing(how, message):
    cache = NOPE.prefill([1, 2, 3])
    with pytest.raises(ValueError, match=message):
        NOPE.read(cache, [4], **how)
    assert cache.tokens == 3


def test_a_cache_belongs_to_one_dtype():
    with pytest.raises(ValueError, match="cache must be of this model's float32; got float64"):
        NOPE.prefill([1], DOUBLE["nope"].prefill([1]))


def test_bad_chunks_and_copies_are_named():
    with pytest.raises(ValueError, match="chunk must be a whole number, 1 or more; got 0"):
        NOPE.prefill([1], chunk=0)
    with pytest.raises(ValueError, match="copies must be a whole number, 1 or more; got 0"):
        NOPE.prefill([1]).fork(0)
    with pytest.raises(ValueError, match="fork needs a cache of one sequence; this one holds 2"):
        NOPE.prefill([[1], [2]]).fork(2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q1": np.zeros((64, 63), np.float32)}, r"weight 'q1' must have shape \(64, 64\); got \(64, 63\)"),
        ({"q2": np.zeros((64, 64), np.float32)}, "and no others; got q2"),
        ({"q1": np.zeros((64, 64))}, "all float32 or all float64; got float32, float64"),
    ],
)
def test_bad_weights_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        TinyLM({**random_weights(), **change})


def test_other_bad_models_are_named():
    weights = random_weights()
    with pytest.raises(ValueError, match="scheme must be one of nope, alibi, rope; got 'ssmax'"):
        TinyLM(weights, "ssmax")
    with pytest.raises(ValueError, match="all float32 or all float64; got float16"):
        TinyLM({name: weight.astype(np.float16) for name, weight in weights.items()})
    del weights["up0"]
    with pytest.raises(ValueError, match="missing: up0"):
        TinyLM(weights)


@pytest.mark.parametrize(
    ("spans", "sequence", "message"),
    [
        ([(0, 65)], 0, r"spans must lie in the 64 tokens that were read; got \(0, 65\)"),
        ([(3, 2)], 0, r"got \(3, 2\)"),
        ([(-1, 2)], 0, r"got \(-1, 2\)"),
        ([(0, 2)], 1, "sequence must be below the reading's batch of 1; got 1"),
    ],
)
def test_bad_spans_are_named(spans, sequence, message):
    with pytest.raises(ValueError, match=message):
        shares(looked(), spans, sequence)


def test_the_module_hands_out_what_it_says():
    assert all(hasattr(tinylm, name) for name in tinylm.__all__)
    assert repr(NOPE) == "TinyLM, nope: 154,112 weights, 512 B of cache per token"
