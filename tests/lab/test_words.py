"""433 words, each one token, and no word in two roles."""

import numpy as np
import pytest

from kvlib.lab import words
from kvlib.lab.words import VALUES, WORDS, decode, encode, ids_of


def test_there_are_433_words_and_none_twice():
    sizes = (18, 12, 2 * 20, 2 * 20, 200, 58, 30, 20, 15)  # function words, ... , adverbs
    assert len(WORDS) == len(set(WORDS)) == sum(sizes) == 433
    groups = (words.ATTRIBUTES, words.FILLER_NOUNS, words.VERBS, words.FILLER_ADJECTIVES, words.ADVERBS)
    assert tuple(map(len, groups)) == (12, 58, 30, 20, 15)
    assert all(len(pair) == 2 for pair in (*words.ADJECTIVES, *words.NOUNS))
    assert WORDS[0] == "<pad>" and not any(set(word) & set(" /") for word in WORDS)


def test_the_values_are_the_numbers_from_100_to_299():
    assert [WORDS[value] for value in VALUES] == [str(number) for number in range(100, 300)]
    assert words.CHANCE == 0.005


def test_encode_and_decode_undo_each_other():
    text = "the seat of brave doctor is 221 ."
    assert decode(encode(text)) == text and encode(text).shape == (8,)
    np.testing.assert_array_equal(encode(decode(range(433))), np.arange(433))
    assert decode([]) == "" and encode("").dtype == np.int64


@pytest.mark.parametrize("ids", [[433], [-1], [0, 1000]])
def test_decode_names_an_id_that_is_no_word(ids):
    with pytest.raises(ValueError, match=f"between 0 and 432; got {ids[-1]}"):
        decode(ids)


def test_encode_names_a_word_that_is_not_there():
    with pytest.raises(ValueError, match="got 'giraffe'"):
        encode("the giraffe")


def test_a_group_is_a_run_of_ids():
    assert ids_of(words.VERBS) == range(encode(words.VERBS[0])[0], encode(words.VERBS[-1])[0] + 1)
    for broken in (["the", "is"], [], ["of", "the"]):
        with pytest.raises(ValueError, match="a run of the vocabulary"):
            ids_of(broken)
