"""What is compared is paired, what is tuned is not reported, and a bill is what was really sent."""

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from kvlib.bills import Price, Rates
from kvlib.hardware import Source
from kvlib.lab.asking import Way
from kvlib.lab.cures import CLAIMED, HARD, best_slope, billed, cures, noise_fee, treatments, tune_slope
from kvlib.lab.retrievers import BM25, THESAURUS
from kvlib.lab.score import mcnemar, wilson
from kvlib.lab.trials import REPORTING, TUNING
from kvlib.prices import price
from tests.needle_models import Backwards, LastValue, random_model

BM25_ONLY = (Way(), Way("BM25", BM25(1)), Way("synonyms", BM25(1, THESAURUS)))
TARIFF = Price("toy", "toy", Rates(Decimal(2), Decimal(10)), Source("here", date(2026, 1, 1), "-"), "2026-01-01")


def test_a_model_that_quotes_the_last_value_is_cured_by_retrieval_only():
    """Alone with its needle it is right; a retriever that misses leaves it wrong; all haystacks are the same."""
    rows = cures(LastValue(), [600], BM25_ONLY, trials=25)
    found = {(row["arm"], row["way"]): row for row in rows}
    assert [(row["arm"], row["way"]) for row in rows] == [
        (style, way.name) for style in ("literal", "synonym") for way in BM25_ONLY
    ]
    assert found["literal", "BM25"]["right"] == found["literal", "synonyms"]["right"] == 25
    assert found["synonym", "synonyms"]["right"] == found["synonym", "synonyms"]["recall"] * 25 == 25
    assert found["synonym", "BM25"]["right"] == found["synonym", "BM25"]["recall"] * 25 < 5
    everything = found["literal", "everything"]
    assert everything["right"] == found["synonym", "everything"]["right"] < 10 and everything["recall"] == 1
    assert found["literal", "BM25"]["sent"] == 25 * 17 and everything["sent"] == 25 * 600
    better = 25 - everything["right"]
    assert (found["literal", "BM25"]["better"], found["literal", "BM25"]["worse"]) == (better, 0)
    assert found["literal", "BM25"]["p"] == mcnemar(better, 0)
    assert (everything["better"], everything["worse"], everything["p"]) == (0, 0, 1)


def test_recall_is_counted_from_the_places_that_were_picked():
    rows = cures(LastValue(), [300], [Way(), Way("BM25", BM25(8))], trials=20)
    for style, synonym in (("literal", False), ("synonym", True)):
        hits = 0
        for trial in range(20):
            hay = replace(HARD, synonym=synonym).haystack(300, trial)
            places = BM25(8)(hay.questions[0].text, [one.text for one in hay.sentences])
            hits += hay.questions[0].needle in places
        (row,) = (row for row in rows if (row["arm"], row["way"]) == (style, "BM25"))
        assert row["recall"] == hits / 20


def test_every_treatment_runs_on_the_real_network():
    ways = treatments(random_model(), slope=3.0)
    assert len({way.name for way in ways}) == len(ways) == 13 and ways[0] == Way()
    assert len(treatments(random_model(), slope=1.0)) == len(treatments(random_model())) == 12
    rows = cures(random_model(), [300], ways, trials=2)
    assert len(rows) == 2 * 13 and all(row["n"] == 2 for row in rows)
    sent = {row["way"]: row["sent"] for row in rows if row["arm"] == "literal"}
    assert sent["own attention, top 1"] - 600 in range(2 * 10, 2 * 20) and sent["temperature, slope 3"] == 600
    assert sent["BM25, top 8"] <= 2 * 73
    assert {way.name for way in CLAIMED} < {way.name for way in ways}


def test_tuning_meets_other_haystacks_than_reporting():
    tuned, reported = Backwards(), Backwards()
    rows = tune_slope(LastValue(), 64, (0.0, 2.0), trials=3, executor=tuned)
    cures(LastValue(), [64], BM25_ONLY, trials=3, executor=reported)
    assert {task.seeds for task in tuned.tasks} == {TUNING} and {task.seeds for task in reported.tasks} == {REPORTING}
    assert [(row["slope"], row["n"]) for row in rows] == [(0.0, 3), (2.0, 3)]
    assert HARD.haystack(64, 0, TUNING) != HARD.haystack(64, 0, REPORTING)


def test_the_best_slope_has_the_most_right_answers_and_of_equals_is_the_smallest():
    rows = [{"slope": slope, "right": right} for slope, right in ((0.0, 3), (4.0, 9), (2.0, 9), (6.0, 8))]
    assert best_slope(rows) == 2.0


def test_a_slope_reaches_the_model():
    model = LastValue()
    tune_slope(model, 65_536 // 16, (0.0, 1.0), trials=1)  # ln 4,096 / ln 256 = 1.5
    assert sorted(model.settings) == [(1.0, None), (pytest.approx(1.5), None)]


# ---------------------------------------------------------------- bills


def record(right, n, sent, tokens=1000):
    low, high = wilson(right, n)
    return {"tokens": tokens, "n": n, "right": right, "sent": sent, "low": low, "high": high}


def test_a_bill_by_hand():
    """4 requests, 4,000 tokens at 2 USD and 4 at 10 USD a million: 8,040 millionths; 2 right answers."""
    (row,) = billed([record(2, 4, 4000)], TARIFF)
    assert row["usd"] == pytest.approx(0.00804 / 4)
    assert row["usd_per_right"] == pytest.approx(0.00402) and row["tokens_per_right"] == 2000
    low, high = wilson(2, 4)
    assert row["usd_per_right_low"] == pytest.approx(0.00804 / 4 / high)
    assert row["usd_per_right_high"] == pytest.approx(0.00804 / 4 / low)
    assert row["right"] == 2  # what was there is still there


def test_no_right_answer_has_no_price():
    (row,) = billed([record(0, 10, 10_000)], TARIFF)
    assert row["usd_per_right"] is row["tokens_per_right"] is row["usd_per_right_high"] is None
    assert row["usd_per_right_low"] == pytest.approx((10_000 * 2 + 10 * 10) / 1e6 / 10 / wilson(0, 10)[1])


def test_a_bill_is_the_sum_of_the_tariffs_own_bills():
    """Prompts of several lengths, each billed alone by kvlib.bills."""
    tariff, model = price("claude-sonnet-4.5"), LastValue()
    rows = cures(model, [300], [Way("BM25", BM25(3))], trials=12)
    alone = [tariff.bill(sent, 1).usd for sent in model.sent[:12]]
    assert billed(rows, tariff)[0]["usd"] == pytest.approx(float(sum(alone)) / 12)


def test_a_long_prompt_may_have_another_price():
    with pytest.raises(ValueError, match=r"threshold 500; got 1,000"):
        billed([record(1, 2, 2000)], replace(TARIFF, threshold=500, long=TARIFF.rates))
    assert billed([record(1, 2, 2000)], replace(TARIFF, threshold=1000, long=TARIFF.rates))


def test_the_noise_fee_is_the_difference():
    full, lean, none = billed([record(2, 4, 4000), record(4, 4, 68), record(0, 4, 68)], TARIFF)
    fee = noise_fee(full, lean)
    assert fee["per_request"] == pytest.approx((4000 - 68) * 2 / 4 / 1e6)
    assert fee["per_right"] == pytest.approx(0.00402 - (68 * 2 + 4 * 10) / 4 / 1e6)
    assert noise_fee(full, none)["per_right"] is None
