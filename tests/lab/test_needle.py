"""Every haystack is as long as asked, holds one right answer, and what is said about its rivals is true of them."""

from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlib.lab.needle import haystack, needles
from kvlib.lab.sentences import (
    FILLER_SHAPES,
    PARTS,
    Key,
    fact,
    filler,
    free_key,
    free_value,
    question,
    random_key,
    rival_key,
)
from kvlib.lab.words import ADJECTIVES, ATTRIBUTES, NOUNS, VALUES, WORDS, decode, encode

SEEDS = st.integers(0, 10**9)
MEANING = {
    word: (kind, number)
    for kind, pairs in (("A", ADJECTIVES), ("N", NOUNS))
    for number, pair in enumerate(pairs)
    for word in pair
}


@st.composite
def recipes(draw):
    """Arguments of `haystack` that fit."""
    rivals = draw(st.integers(0, 6))
    numeric = draw(st.floats(0, 1))
    return {
        "rng": Random(draw(SEEDS)),
        "tokens": draw(st.integers(17 + 8 * rivals, 300)),
        "facts": draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])),
        "numeric": numeric,
        "topical": draw(st.floats(0, 1 - numeric)),
        "rivals": rivals,
        "shared": draw(st.integers(0, 2)),
        "depth": draw(st.none() | st.floats(0, 1)),
        "synonym": draw(st.booleans()),
    }


def facts_in(text):
    """(attribute, meaning of the adjective, meaning of the noun, value) of every fact, read off the text alone."""
    found = []
    for sentence in f" {text}".split(" ."):
        words = sentence.split()
        if len(words) == 7 and words[0] == "the" and words[2] == "of" and words[5] == "is" and words[6].isdigit():
            found.append((words[1], MEANING[words[3]], MEANING[words[4]], words[6]))
    return found


def asked_for(text):
    """The same for a question."""
    what, is_, the, attribute, of, adjective, noun, mark, answer = text.split()
    assert (what, is_, the, of, mark, answer) == ("what", "is", "the", "of", "?", "answer")
    return attribute, MEANING[adjective], MEANING[noun]


# ---------------------------------------------------------------- one haystack


@given(recipes())
def test_the_prompt_is_exactly_as_long_as_asked(recipe):
    hay = haystack(**recipe)
    assert len(hay.prompt()) == recipe["tokens"] and len(hay.ids) == recipe["tokens"] - 9
    assert hay.prompt().dtype == np.int64 and 0 <= hay.prompt().min() <= hay.prompt().max() < 433


@given(recipes())
def test_reading_the_text_finds_exactly_one_answer(recipe):
    hay = haystack(**recipe)
    asked, text = hay.questions[0], decode(hay.ids)
    facts = facts_in(text)
    matching = [value for *key, value in facts if tuple(key) == asked_for(asked.text)]
    assert matching == [WORDS[asked.answer]]
    assert [value for *_, value in facts].count(WORDS[asked.answer]) == 1  # and no other fact has its value
    assert hay.ids[hay.needle_position()] == asked.answer


@given(recipes())
def test_labels_say_what_the_words_say(recipe):
    hay = haystack(**recipe)
    labelled = [(*_words_of(one.key), WORDS[one.value]) for one in hay.sentences if one.key]
    assert Counter(labelled) == Counter(facts_in(decode(hay.ids)))
    assert [decode(hay.ids[start:end]) for start, end in hay.spans] == [one.text for one in hay.sentences]
    assert [one.kind for one in hay.sentences].count("needle") == 1
    assert [one.kind for one in hay.sentences[1:]].count("pad") == 0  # padding comes first, if at all


def _words_of(key):
    return ATTRIBUTES[key.attribute], ("A", key.adjective), ("N", key.noun)


@given(recipes())
def test_rivals_share_as_many_parts_as_asked(recipe):
    hay = haystack(**{**recipe, "facts": 0.0})
    key = hay.questions[0].key
    facts = [one for one in hay.sentences if one.kind == "fact"]
    assert len(facts) == recipe["rivals"]
    assert all(one.key.shared(key) == recipe["shared"] for one in facts)


@given(recipes())
def test_a_synonym_question_shares_no_word_that_names_the_thing(recipe):
    hay = haystack(**recipe)
    asked = hay.questions[0]
    told = hay.sentences[asked.needle].text.split()
    _, _, _, attribute, _, adjective, noun, *_ = asked.text.split()
    assert attribute == told[1] and MEANING[adjective] == MEANING[told[3]] and MEANING[noun] == MEANING[told[4]]
    same = (adjective == told[3], noun == told[4])
    assert same == ((False, False) if recipe["synonym"] else (True, True))


@given(recipes())
def test_the_three_words_of_the_key_stand_as_far_before_the_value_as_before_the_answer(recipe):
    hay = haystack(**{**recipe, "synonym": False})
    prompt, value, end = hay.prompt(), hay.needle_position(), recipe["tokens"] - 1
    assert WORDS[prompt[end]] == "answer"
    for distance in (5, 3, 2):
        assert prompt[value - distance] == prompt[end - distance]


@pytest.mark.parametrize("depth", [0, 0.25, 0.5, 1])
def test_depth_is_the_share_of_the_hay_that_comes_before(depth):
    hay = haystack(Random(1), 500, depth=depth)
    sentences = [one for one in hay.sentences if one.kind != "pad"]
    place = next(place for place, one in enumerate(sentences) if one.kind == "needle")
    assert place == round(depth * (len(sentences) - 1))


def test_the_same_seed_gives_the_same_haystack_and_another_another():
    first, again, other = (haystack(Random(seed), 300, facts=0.5) for seed in (1, 1, 2))
    assert first == again and first != other


def test_shares_of_the_hay_are_those_asked_for():
    hay = haystack(Random(0), 40_000, facts=0.3, numeric=0.4, topical=0.1)
    kinds = Counter(one.kind for one in hay.sentences)
    total = sum(kinds.values())
    expected = {"fact": 0.3, "numeric": 0.7 * 0.4, "topical": 0.7 * 0.1, "plain": 0.7 * 0.5}
    for kind, share in expected.items():
        assert kinds[kind] / total == pytest.approx(share, abs=0.02), kind  # 4,800 sentences: 3 standard errors
    assert haystack(Random(0), 2_000, numeric=1.0, topical=0.0).sentences[5].kind in ("numeric", "needle")


def test_random_facts_share_parts_as_often_as_chance_has_it():
    """Of 4,800 keys 1 in 12, 20 and 20 share a part: a haystack of facts has near-misses that nobody put there."""
    hay = haystack(Random(3), 60_000, facts=1.0)
    shared = Counter(one.key.shared(hay.questions[0].key) for one in hay.sentences if one.kind == "fact")
    count = sum(shared.values())
    twice = 1 / 240 * 19 / 20 * 2 + 1 / 400 * 11 / 12
    assert shared[2] / count == pytest.approx(twice, abs=4 * (twice / count) ** 0.5)
    once = 1 / 12 * (19 / 20) ** 2 + 2 * 1 / 20 * 11 / 12 * 19 / 20
    assert shared[1] / count == pytest.approx(once, abs=4 * (once / count) ** 0.5)


# ---------------------------------------------------------------- several needles, and parts of a haystack


@given(SEEDS, st.lists(st.floats(0, 1), min_size=1, max_size=9), st.sampled_from([0.0, 1.0]), st.integers(0, 2))
def test_needles_lie_in_the_order_of_their_depths(seed, depths, facts, rivals):
    hay = needles(Random(seed), 600, depths, facts=facts, rivals=rivals)
    assert len(hay.ids) == 591 and len(hay.questions) == len(depths)
    found = facts_in(decode(hay.ids))
    for asked in hay.questions:
        assert [value for *key, value in found if tuple(key) == asked_for(asked.text)] == [WORDS[asked.answer]]
    places = [asked.needle for asked in hay.questions]
    assert len(set(places)) == len(places)
    for one, other in zip(range(len(depths)), range(1, len(depths)), strict=False):
        if abs(depths[one] - depths[other]) > 0.1:
            assert (places[one] < places[other]) == (depths[one] < depths[other])
    assert len({asked.answer for asked in hay.questions}) == len(depths)


def test_every_question_has_its_own_prompt_and_value():
    hay = needles(Random(5), 400, (0, 0.5, 1))
    for number, asked in enumerate(hay.questions):
        assert decode(hay.prompt(number)).endswith(asked.text) and len(hay.prompt(number)) == 400
        assert hay.ids[hay.needle_position(number)] == asked.answer


@given(recipes(), st.data())
def test_keep_and_without_are_opposites(recipe, data):
    hay = haystack(**recipe)
    everything = range(len(hay.sentences))
    kept = data.draw(st.sets(st.sampled_from(everything)))
    some = hay.keep(kept)
    assert some.sentences == tuple(hay.sentences[place] for place in sorted(kept))
    assert hay.without(set(everything) - kept) == some
    asked = some.questions[0]
    if hay.questions[0].needle in kept:
        assert some.sentences[asked.needle].kind == "needle" and some.ids[some.needle_position()] == asked.answer
    else:
        assert asked.needle == -1
        with pytest.raises(ValueError, match="must still have its needle"):
            some.needle_position()


def test_places_that_are_no_sentence_are_named():
    hay = haystack(Random(0), 100)
    for places in ([-1], [len(hay.sentences)], [0, 99]):
        for method in (hay.keep, hay.without):
            with pytest.raises(ValueError, match=f"between 0 and {len(hay.sentences) - 1}"):
                method(places)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": 16}, "tokens must be 17 or more .* got 16"),
        ({"tokens": 32, "rivals": 2}, "tokens must be 33 or more .* got 32"),
        ({"facts": 1.1}, "facts must lie between 0 and 1; got 1.1"),
        ({"numeric": -0.1}, "numeric must lie between 0 and 1; got -0.1"),
        ({"numeric": 0.6, "topical": 0.6}, r"numeric \+ topical must lie"),
        ({"depth": 2}, "depth.* must lie between 0 and 1; got 2"),
        ({"rivals": -1}, "rivals=-1"),
        ({"shared": 3}, "shared=3"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        haystack(Random(0), **{"tokens": 100, **changes})


@pytest.mark.parametrize("depths", [[], [0.5] * 101])
def test_a_number_of_needles_that_cannot_be_is_refused(depths):
    with pytest.raises(ValueError, match=f"got {len(depths)}"):
        needles(Random(0), 2_000, depths)


# ---------------------------------------------------------------- sentences


@given(SEEDS)
def test_a_fact_is_eight_words_with_a_name_of_the_right_meaning(seed):
    rng = Random(seed)
    key, value = random_key(rng), rng.choice(VALUES)
    told = fact(rng, key, value)
    assert facts_in(told.text) == [(*_words_of(key), WORDS[value])]
    assert (told.kind, told.key, told.value, len(told.ids)) == ("fact", key, value, 8)
    assert asked_for(decode(question(told))) == asked_for(decode(question(told, synonym=True))) == _words_of(key)


def test_both_names_of_a_thing_are_used():
    rng, key = Random(0), Key(0, 0, 0)
    said = {tuple(fact(rng, key, VALUES[0]).text.split()[3:5]) for _ in range(100)}
    assert said == {(adjective, noun) for adjective in ADJECTIVES[0] for noun in NOUNS[0]}


@given(SEEDS, st.sampled_from(sorted(FILLER_SHAPES)))
def test_filler_answers_nothing(seed, kind):
    one = filler(Random(seed), kind)
    assert one.kind == kind and one.key is None and one.value is None
    assert one.text.endswith(" .") and not facts_in(one.text)
    named = [word for word in one.text.split() if word in MEANING]
    numbers = [word for word in one.text.split() if word.isdigit()]
    assert bool(numbers) == (kind == "numeric") and not (named and kind != "topical")


@given(SEEDS, st.integers(0, 2))
def test_a_rival_shares_exactly_so_many_parts_and_is_not_taken(seed, shared):
    rng = Random(seed)
    key = random_key(rng)
    taken = {key} | {rival_key(rng, key, shared) for _ in range(20)}
    near = rival_key(rng, key, shared, taken)
    assert sum(one == other for one, other in zip(near, key, strict=True)) == shared == near.shared(key)
    assert near not in taken and all(0 <= part < many for part, many in zip(near, PARTS, strict=True))


def test_every_part_of_a_rival_can_be_the_one_that_differs():
    rng, key = Random(0), Key(1, 2, 3)
    different = {
        tuple(mine != theirs for mine, theirs in zip(rival_key(rng, key, 2), key, strict=True)) for _ in range(99)
    }
    assert different == {(True, False, False), (False, True, False), (False, False, True)}


def test_free_means_not_taken():
    rng = Random(0)
    assert free_value(rng, set(VALUES) - {VALUES[7]}) == VALUES[7]
    others = {Key(a, b, c) for a in range(12) for b in range(20) for c in range(20)} - {Key(4, 5, 6)}
    assert len(others) == 4_799 and free_key(rng, others) == Key(4, 5, 6)


def test_a_question_is_nine_words():
    told = fact(Random(0), Key(0, 0, 0), encode("221")[0])
    assert len(question(told)) == 9 and decode(question(told)).startswith("what is the ")
