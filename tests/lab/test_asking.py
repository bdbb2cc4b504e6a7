"""One question: what is sent, which answer is right, where a wrong one comes from, and how attention is counted."""

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlib.lab.asking import Prompts, Way, needle_scores, quoted
from kvlib.lab.needle import Haystack, Question, haystack
from kvlib.lab.sentences import Key, Sentence
from kvlib.lab.words import encode
from tests.needle_models import LastValue, random_model


def sentence(text, kind="plain", key=None):
    ids = tuple(encode(text).tolist())
    return Sentence(ids, kind, key, ids[6] if key else None)


NEEDLE = sentence("the seat of red doctor is 101 .", "needle", Key(7, 0, 0))
HAY = Haystack(
    (
        sentence("the seat of red teacher is 102 .", "fact", Key(7, 0, 1)),
        sentence("the seat of big boat is 103 .", "fact", Key(7, 1, 2)),
        NEEDLE,
        sentence("the code of big boat is 104 .", "fact", Key(0, 1, 2)),
        sentence("the code of big boat is 102 .", "fact", Key(0, 1, 2)),
        sentence("the valley has 105 river .", "numeric"),
    ),
    (Question(tuple(encode("what is the seat of red doctor ? answer").tolist()), NEEDLE.value, 2, NEEDLE.key),),
)


@pytest.mark.parametrize(
    ("answer", "source"),
    [
        ("101", "needle"),
        ("102", "2 of 3"),  # stated twice: the nearer of the two facts counts
        ("103", "1 of 3"),
        ("104", "0 of 3"),
        ("105", "filler"),
        ("106", "nothing"),
        ("seat", "nothing"),  # stands there, and is no value
    ],
)
def test_where_an_answer_was_taken_from(answer, source):
    assert quoted(HAY, int(encode(answer)[0])) == source


# ---------------------------------------------------------------- ways of reading


def test_everything_is_sent_unless_there_is_a_retriever():
    model = LastValue()
    (trial,) = Prompts(model, [HAY]).read(Way())
    assert model.sent == [len(HAY.prompt())] == [trial.sent] and trial.kv_bytes == 10 * trial.sent
    assert (trial.right, trial.quoted, trial.found) == (False, "filler", True)


def test_a_retriever_is_shown_texts_and_its_places_are_sent_in_their_old_order():
    model, seen = LastValue(), []

    def retriever(question, sentences):
        seen.append((question, list(sentences)))
        return (place for place in [5, 2, 0, 2])

    (trial,) = Prompts(model, [HAY]).read(Way("mine", retriever))
    assert seen == [(HAY.questions[0].text, [one.text for one in HAY.sentences])]
    assert model.sent == [8 + 8 + 6 + 9] == [trial.sent]
    assert trial.quoted == "filler" and trial.found  # the filler, last in the text, is still last


def test_what_was_not_retrieved_cannot_be_found():
    model = LastValue()
    (trial,) = Prompts(model, [HAY]).read(Way("mine", lambda *_: [1]))
    assert (trial.found, trial.mass, trial.deltas, trial.right) == (False, 0.0, (), False)
    (only,) = Prompts(model, [HAY]).read(Way("mine", lambda *_: [2]))
    assert (only.right, only.found, only.quoted, only.mass) == (True, True, "needle", 0.5)


@pytest.mark.parametrize("model", [LastValue(), random_model()])
def test_nothing_retrieved_is_the_question_alone(model):
    (trial,) = Prompts(model, [HAY]).read(Way("mine", lambda *_: []))
    assert (trial.sent, trial.found, trial.mass) == (9, False, 0.0)


def test_a_first_pass_is_sent_as_well():
    way = Way("mine", lambda *_: [2], first_pass=True)
    (trial,) = Prompts(LastValue(), [HAY]).read(way)
    assert trial.sent == len(HAY.prompt()) + 8 + 9


def test_all_ways_without_a_retriever_share_one_prefill():
    model, hays = LastValue(), [haystack(Random(seed), 64) for seed in range(3)]
    prompts = Prompts(model, hays)
    first = prompts.read(Way())
    for way in (Way(top_keys=4), Way(slope=2.0), Way()):
        assert len(prompts.read(way)) == 3
    assert prompts.read(Way()) == first  # the questions of the other ways were not left in the cache
    assert model.prefilled == 3 * (64 - 9) and model.sent == [64] * 15
    assert model.settings[3:6] == [(1.0, 4)] * 3


def test_a_batch_gives_what_each_haystack_gives_alone():
    model, hays = random_model(), [haystack(Random(seed), 200, facts=0.5) for seed in range(5)]
    together = Prompts(model, hays).read(Way())
    alone = [Prompts(model, [hay]).read(Way())[0] for hay in hays]
    assert [one._replace(mass=0, deltas=()) for one in together] == [one._replace(mass=0, deltas=()) for one in alone]
    np.testing.assert_allclose([one.mass for one in together], [one.mass for one in alone], rtol=1e-5)
    assert together[0].kv_bytes == model.model.cache_bytes(200, "fp32")


@pytest.mark.parametrize("lengths", [[], [64, 65]])
def test_haystacks_that_are_not_equally_long_are_refused(lengths):
    with pytest.raises(ValueError, match="all equally long; got lengths"):
        Prompts(LastValue(), [haystack(Random(0), tokens) for tokens in lengths])


def test_temperature_grows_with_the_logarithm_of_the_tokens_beyond_what_was_trained():
    assert [Way(slope=3).temperature(tokens) for tokens in (17, 64, 256)] == [1, 1, 1]
    assert Way(slope=1).temperature(65_536) == pytest.approx(2)  # ln 65,536 = 2 ln 256
    assert Way(slope=3).temperature(65_536) == pytest.approx(4)
    assert Way().temperature(65_536) == 1
    model = LastValue()
    Prompts(model, [haystack(Random(0), 1024)]).read(Way(slope=1, top_keys=7))
    assert model.settings == [(pytest.approx(math.log(1024) / math.log(256)), 7)]


# ---------------------------------------------------------------- attention


@given(st.lists(st.floats(-8, 8), min_size=2, max_size=40), st.data())
def test_delta_is_the_score_above_the_log_of_the_mean_power_of_the_others(scores, data):
    place = data.draw(st.integers(0, len(scores) - 1))
    powers = np.exp(scores)
    mass, (delta, other) = needle_scores(
        np.stack([powers / powers.sum(), np.full(len(scores), 1 / len(scores))]), place
    )
    rest = [power for at, power in enumerate(powers) if at != place]
    assert delta == pytest.approx(scores[place] - math.log(sum(rest) / len(rest)), abs=1e-9)
    assert other == pytest.approx(0, abs=1e-12)  # even attention: the needle stands out by nothing
    assert mass == pytest.approx((powers[place] / powers.sum() + 1 / len(scores)) / 2)


def test_a_needle_without_any_attention_lies_infinitely_low():
    assert needle_scores(np.array([[0.0, 1.0]], dtype=np.float32), 0) == (0.0, (-math.inf,))
