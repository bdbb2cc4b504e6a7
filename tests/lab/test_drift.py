"""The experiments on models whose answers are known, and the shipped model where the lesson leans on it."""

import json

import pytest

from kvlib.lab import drift, trials
from kvlib.lab.asking import QUOTES
from kvlib.lab.depth import heatmap
from kvlib.lab.drift import effective_lengths, noise, rivals, score_run, synonyms
from kvlib.lab.score import mcnemar, wilson
from kvlib.lab.tinylm import load
from kvlib.lab.trials import ALL_FACTS, FEW_FACTS, LENGTHS, NOISE, PLAIN, ceiling, measure
from tests.needle_models import LastValue


def test_noise_has_a_record_per_kind_and_length():
    rows = noise(LastValue(), [64, 200], trials=10)
    assert [(row["arm"], row["tokens"]) for row in rows] == [
        (arm.name, tokens) for arm in NOISE for tokens in (64, 200)
    ]
    right = {row["arm"]: row["right"] for row in rows if row["tokens"] == 200}
    assert right["plain filler"] == right["half topical"] == 10  # the needle's is the only number
    assert right["half numeric"] < 10 and right["100 % facts"] < 5
    assert all(row["quotes filler"] == 10 - row["right"] for row in rows if row["arm"] == "half numeric")


def test_effective_lengths_of_every_kind():
    rows = [
        {"arm": arm, "tokens": tokens, "accuracy": accuracy}
        for arm, series in (("a", (1.0, 0.9, 0.8)), ("b", (0.9, 0.8, 0.77)), ("c", (1.0, 0.5, 1.0)))
        for tokens, accuracy in zip((64, 128, 256), series, strict=True)
    ]
    assert effective_lengths(rows) == {"a": 128, "b": 256, "c": 64}
    assert effective_lengths(rows, share=0.5)["c"] == 256


def test_rivals_are_in_the_prompt_and_no_other_fact():
    rows = rivals(LastValue(), (0, 3), (2, 0), trials=12)
    assert [(row["shared"], row["rivals"], row["tokens"]) for row in rows] == [
        (2, 0, 256), (2, 3, 256), (0, 0, 256), (0, 3, 256)
    ]  # fmt: skip
    assert [row["right"] for row in (rows[0], rows[2])] == [12, 12]
    assert (
        rows[1]["quotes 2 of 3"] == 12 - rows[1]["right"] > 0 and rows[3]["quotes 0 of 3"] == 12 - rows[3]["right"] > 0
    )


def test_synonyms_are_paired():
    class Literal(LastValue):
        """Finds the needle, which is the only fact, if the question uses its noun."""

        def read(self, cache, ids, *how):
            reading = super().read(cache, ids, *how)
            for row, words in enumerate(cache.ids):
                if words[-3] not in words[:-9]:
                    reading.logits[row] = 0
            return reading

    (row,) = synonyms(Literal(), [64], PLAIN, trials=30)
    assert (row["n"], row["literal"], row["synonym"]) == (30, 1.0, 0.0)
    assert (row["only_literal"], row["only_synonym"], row["p"]) == (30, 0, mcnemar(30, 0))
    assert (row["literal_low"], row["literal_high"]) == wilson(30, 30)
    assert (row["synonym_low"], row["synonym_high"]) == wilson(0, 30)


def test_a_report_of_a_run_is_plain_and_whole(monkeypatch):
    few = dict.fromkeys(LENGTHS, 2)
    monkeypatch.setattr(trials, "TRIALS", few)
    monkeypatch.setattr(drift, "LENGTHS", (64, 128))
    report = score_run(LastValue())
    assert json.loads(json.dumps(report)) == report
    assert report["scheme"] == "nope" and report["effective_length"] in (64, 128)
    assert report["ceiling"]["accuracy"] == 1.0 and report["ceiling"]["tokens"] == 17
    seen = {(row["arm"], row["tokens"]) for row in report["rows"]}
    assert {("100 % facts", 64), ("plain filler", 16_384), ("30 % facts", 4096), ("16 rivals", 256)} <= seen
    assert {row["n"] for row in report["rows"]} == {2} and {row["n"] for row in report["depths"]} == {20}
    assert [row["way"] for row in report["cures"][:2]] == ["everything", "BM25, top 1"]


# ---------------------------------------------------------------- the shipped model
# Loose bounds: two answers either way, since another BLAS may break a tie another way.


@pytest.fixture(scope="module")
def shipped():
    return load("nope")


def test_the_shipped_model_answers_without_a_haystack(shipped):
    assert ceiling(shipped)["right"] >= 198


def test_the_shipped_model_finds_its_needle_in_plain_filler_at_every_depth(shipped):
    rows = heatmap(shipped, [256, 1024], repetitions=10)
    assert sum(row["right"] for row in rows) >= 170  # of 180
    assert min(row["right"] for row in rows) >= 8


def test_the_shipped_model_loses_it_among_facts_as_length_grows(shipped):
    short, long = measure(shipped, [ALL_FACTS], [256, 16384], trials={256: 60, 16384: 30})
    assert short["low"] > long["high"], (short["accuracy"], long["accuracy"])
    assert short["mass"] > 2 * long["mass"]
    assert sum(long[f"quotes {what}"] for what in QUOTES[:3]) >= 0.7 * (long["n"] - long["right"])  # confidently wrong


def test_few_facts_cost_less_than_many(shipped):
    few, many = measure(shipped, [FEW_FACTS, ALL_FACTS], [4096], trials=30)
    assert few["mass"] > 1.5 * many["mass"] and few["right"] > many["right"]


def test_similar_rivals_hurt_within_the_trained_length_and_others_do_not(shipped):
    alike, alien = rivals(shipped, (16,), (2, 0), trials=60)
    assert alike["high"] < alien["low"]
