"""Prices of sentences add up to the odds of noise, and a list made of one haystack foretells its own mass."""

from random import Random

import numpy as np
import pytest

from kvlib.lab.asking import Prompts, Way
from kvlib.lab.needle import haystack
from kvlib.lab.noise_prices import CONSTANT, KINDS, MIXED, kind, price_check, price_list, sentence_prices
from kvlib.lab.sentences import Key, Sentence
from kvlib.lab.trials import PLAIN
from tests.needle_models import LastValue, random_model


@pytest.mark.parametrize(
    ("sentence", "name"),
    [
        (Sentence((), "fact", Key(1, 2, 9)), "fact 2 of 3"),
        (Sentence((), "fact", Key(1, 9, 9)), "fact 1 of 3"),
        (Sentence((), "fact", Key(9, 9, 9)), "fact 0 of 3"),
        (Sentence((), "needle", Key(1, 2, 3)), CONSTANT),
        (Sentence((), "pad"), CONSTANT),
        (Sentence((), "topical"), "topical"),
    ],
)
def test_kinds(sentence, name):
    assert kind(sentence, Key(1, 2, 3)) == name


@pytest.mark.parametrize("model", [random_model(), LastValue()])
def test_all_prices_together_are_the_odds_of_noise(model):
    hay = haystack(Random(3), 400, facts=0.4, rivals=3)
    found = sentence_prices(hay, model)
    (trial,) = Prompts(model, [hay]).read(Way())
    assert sum(map(sum, found.values())) == pytest.approx((1 - trial.mass) / trial.mass, rel=1e-5)
    kinds = [kind(one, hay.questions[0].key) for one in hay.sentences]
    assert {name: len(prices) for name, prices in found.items()} == {
        **{name: kinds.count(name) for name in KINDS},
        CONSTANT: 1,
    }


def test_the_price_of_a_sentence_is_its_attention_per_attention_on_the_value():
    hay, model = haystack(Random(3), 200, facts=0.4), random_model()
    ids = hay.prompt()
    attention = model.read(model.prefill(ids[:-1]), ids[-1:]).attention[0].mean(axis=0)
    place = next(place for place, one in enumerate(hay.sentences) if one.kind == "fact")
    start, end = hay.spans[place]
    name = kind(hay.sentences[place], hay.questions[0].key)
    expected = attention[start:end].sum() / attention[hay.needle_position()]
    assert sentence_prices(hay, model)[name][0] == pytest.approx(expected, rel=1e-5)


def test_a_list_counts_every_sentence_and_brackets_its_means():
    rows = price_list(random_model(), 300, trials=12)
    assert [row["kind"] for row in rows] == [*KINDS, CONSTANT] and rows[-1]["n"] == 12
    hays = [MIXED.haystack(300, trial) for trial in range(12)]
    near = [one for hay in hays for one in hay.sentences if kind(one, hay.questions[0].key) == "fact 2 of 3"]
    assert rows[5]["n"] == len(near) >= 48  # four to a prompt were put there
    prices = [price for hay in hays for price in sentence_prices(hay, random_model())["fact 2 of 3"]]
    assert (rows[5]["mean"], rows[5]["median"]) == (pytest.approx(np.mean(prices)), pytest.approx(np.median(prices)))
    assert all(row["low"] < row["mean"] < row["high"] for row in rows)
    assert price_list(random_model(), 300, trials=12) == rows


def test_a_list_needs_every_kind():
    with pytest.raises(ValueError, match="'plain filler' has none of 'numeric'"):
        price_list(random_model(), 200, PLAIN, trials=3)


def test_a_list_of_one_prompt_foretells_its_mass():
    """All sentences of a kind at their mean price sum to what they cost: no error is left."""
    model = random_model()
    prices = price_list(model, 300, trials=1, seeds="test 1")
    (row,) = price_check(model, prices, MIXED, [300], trials=1, seeds="test 1")
    assert row["predicted"] == pytest.approx(row["mass"], rel=1e-5)
    assert row["odds_predicted"] == pytest.approx(row["odds"], rel=1e-5) and row["odds"] == row["odds_mean"]
    assert row["predicted_median"] != pytest.approx(row["mass"], rel=1e-3)


def test_a_check_counts_the_sentences_of_a_prompt():
    prices = [{"kind": name, "mean": 0.25, "median": 0.5} for name in (*KINDS, CONSTANT)]
    (row,) = price_check(random_model(), prices, PLAIN, [200], trials=4)
    hays = [PLAIN.haystack(200, trial) for trial in range(4)]
    plain = np.mean([sum(one.kind == "plain" for one in hay.sentences) for hay in hays])
    assert (row["plain"], row["numeric"], row["fact 2 of 3"], row["n"]) == (plain, 0, 0, 4)
    assert row["predicted"] == pytest.approx(1 / (1 + 0.25 * (1 + plain)))
    assert row["predicted_median"] == pytest.approx(1 / (1 + 0.5 * (1 + plain)))
