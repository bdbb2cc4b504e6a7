"""BM25 against scores worked out by hand, and every retriever against sentences whose best match is plain to see."""

import math
from random import Random

import numpy as np
import pytest

from kvlib.lab.needle import haystack
from kvlib.lab.retrievers import BM25, THESAURUS, Embeddings, OwnAttention, content
from kvlib.lab.tinylm import TinyLM
from kvlib.lab.words import ADJECTIVES, NOUNS, encode
from tests.needle_models import LastValue, random_model

FACTS = [
    "the seat of brave actor is 221 .",
    "the seat of brave boat is 202 .",
    "the code of red boat is 100 .",
    "the river held the lamp slowly .",
]
ASKED = "what is the seat of brave actor ? answer"


def test_content_is_what_is_not_a_function_word():
    assert content(ASKED) == ["seat", "brave", "actor"]
    assert content("the code was on the wide lamp .") == ["code", "wide", "lamp"]
    assert content("what is the of ?") == []


def test_bm25_by_hand_where_all_sentences_are_equally_long():
    """Four words each, none twice: length and frequency cancel, and a word in df of n weighs ln((n + 1) / df)."""
    rare, common = math.log(5 / 1), math.log(5 / 2)  # actor; seat and brave
    scores = BM25().scores(ASKED, FACTS)
    assert scores == pytest.approx([2 * common + rare, 2 * common, 0, 0])


def test_bm25_by_hand_where_they_are_not():
    """1 and 3 words, mean 2: a word counts 2.2 / (1 + 1.2 (0.25 + 0.75 length / 2)): 2.2 / 1.75 and 2.2 / 2.65."""
    sentences = ["seat .", "the seat of boat is 100 ."]
    weight = math.log(3 / 2)
    assert BM25().scores("what is the seat", sentences) == pytest.approx([weight * 2.2 / 1.75, weight * 2.2 / 2.65])
    twice = ["seat seat .", "boat lamp ."]  # a word that stands twice: 2 x 2.2 / (2 + 1.2)
    assert BM25().scores("seat", twice) == pytest.approx([math.log(3) * 4.4 / 3.2, 0])


def test_bm25_picks_the_best_few_that_share_a_word():
    assert BM25(1)(ASKED, FACTS) == [0]
    assert BM25(3)(ASKED, FACTS) == [0, 1]
    assert BM25(3)("what is the code of red boat ? answer", FACTS) == [2, 1]
    assert BM25(8)("what is the vault of lazy cook ? answer", FACTS) == []
    assert BM25(2)("seat", FACTS) == [0, 1]  # of equals the first


def test_bm25_finds_the_right_one_of_two_sentences():
    """Where a word stands in half of the sentences, the package's own BM25Okapi gives it no weight."""
    assert BM25(1)(ASKED, FACTS[:1] + FACTS[3:]) == [0]


def test_the_thesaurus_names_the_other_word_for_everything():
    assert len(THESAURUS) == 80
    for pair in (*ADJECTIVES, *NOUNS):
        assert THESAURUS[pair[0]] == (pair[1],) and THESAURUS[pair[1]] == (pair[0],)


def test_other_words_need_a_thesaurus():
    asked = "what is the seat of bold performer ? answer"
    assert BM25(1)(asked, ["the seat of red boat is 101 .", *FACTS[2:], FACTS[0]]) == [0]  # the attribute alone
    assert BM25(1, THESAURUS)(asked, ["the seat of red boat is 101 .", *FACTS[2:], FACTS[0]]) == [3]


@pytest.mark.parametrize("synonym", [False, True])
def test_bm25_with_synonyms_finds_every_needle(synonym):
    for seed in range(20):
        hay = haystack(Random(seed), 1000, facts=1.0, rivals=2, synonym=synonym)
        places = BM25(1, THESAURUS)(hay.questions[0].text, [one.text for one in hay.sentences])
        assert places == [hay.questions[0].needle]


def test_embeddings_match_each_word_to_its_nearest():
    """With random vectors, a word is near itself (cosine 1) and far from all others (about 0 ± 1/8)."""
    found = Embeddings(random_model(), 2)(ASKED, FACTS)
    assert found == [0, 1]
    vectors = np.random.default_rng(0).standard_normal((433, 64)).astype(np.float32)
    model = random_model()
    similar = dict(model.weights)
    vectors[encode("bold")] = 3 * vectors[encode("brave")]  # the same direction: the length does not count
    vectors[encode("performer")] = vectors[encode("actor")]
    vectors[encode("lamp")] = 100 * (vectors[encode("actor")] + 3 * vectors[encode("river")])  # long, and little alike
    similar["embedding"] = vectors
    asked = "what is the seat of bold performer ? answer"
    assert Embeddings(TinyLM(similar), 1)(asked, ["the seat of red boat is 101 .", *FACTS]) == [1]


def test_own_attention_picks_what_the_model_looks_at():
    found = OwnAttention(LastValue(), 1)(ASKED, FACTS)
    assert found == [2]  # it looks at the last number
    model, hay = random_model(), haystack(Random(0), 300, facts=0.5)
    texts = [one.text for one in hay.sentences]
    ids = hay.prompt()
    attention = model.read(model.prefill(ids[:-1]), ids[-1:]).attention[0].mean(axis=0)
    sums = [attention[start:end].sum() for start, end in hay.spans]
    assert OwnAttention(model, 3)(hay.questions[0].text, texts) == list(np.argsort(sums)[::-1][:3])
