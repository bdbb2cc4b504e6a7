"""The dilution law against softmaxes written out, and against a model whose attention is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlib.lab.dilution import (
    OddsLine,
    after_deleting,
    delta,
    dilution,
    fit_odds,
    mass,
    mass_with,
    noise_odds,
)
from kvlib.lab.trials import ALL_FACTS, PLAIN, run
from tests.needle_models import LastValue, random_model

SCORES = st.lists(st.floats(-10, 10), min_size=2, max_size=60)


def softmax(scores):
    powers = np.exp(np.array(scores))
    return powers / powers.sum()


@given(SCORES)
def test_mass_is_the_softmax_of_a_needle_delta_above_the_mean_power_of_the_others(scores):
    needle, *others = scores
    above = needle - math.log(sum(math.exp(score) for score in others) / len(others))
    seen = softmax(scores)[0]
    assert mass(len(scores), above) == pytest.approx(seen, rel=1e-9)
    assert delta(len(scores), seen) == pytest.approx(above, abs=1e-6)
    assert noise_odds(seen) == pytest.approx(softmax(scores)[1:].sum() / seen, rel=1e-6)


def test_mass_by_hand():
    assert mass(1, 3.0) == 1  # alone
    assert mass(4, 0.0) == 0.25  # four equal tokens
    assert mass(101, math.log(100)) == pytest.approx(0.5)  # e^delta others weigh as much as the needle
    np.testing.assert_allclose(mass([2, 3, 4], 0.0), [1 / 2, 1 / 3, 1 / 4])
    np.testing.assert_allclose(mass(1001, np.log([1000, 10])), [1 / 2, 1 / 101])


@given(SCORES, st.data())
def test_deleting_shares_out_what_the_deleted_had(scores, data):
    gone = data.draw(st.sets(st.integers(1, len(scores) - 1), max_size=len(scores) - 1))
    before = softmax(scores)
    left = [score for place, score in enumerate(scores) if place not in gone]
    share = sum(before[place] for place in gone)
    np.testing.assert_allclose(
        after_deleting([before[place] for place in range(len(scores)) if place not in gone], share),
        softmax(left),
        rtol=1e-6,
    )


def test_deleting_by_hand():
    assert after_deleting(0.3, 0.4) == pytest.approx(0.5)
    assert after_deleting(0.3, 0.0) == pytest.approx(0.3)


@given(SCORES, SCORES, st.integers(1, 30), st.integers(0, 30))
def test_a_price_list_adds_up_to_the_softmax(loud, quiet, many_loud, many_quiet):
    """One head: a needle of score 2, a question of score 1, and sentences of two kinds, any number of each."""
    everything = softmax([2.0, 1.0, *loud * many_loud, *quiet * many_quiet])
    prices = {"loud": sum(map(math.exp, loud)) / math.exp(2), "quiet": sum(map(math.exp, quiet)) / math.exp(2)}
    counts = {"loud": many_loud, "quiet": many_quiet}
    assert mass_with(math.exp(1 - 2), counts, prices) == pytest.approx(everything[0], rel=1e-6)


@given(st.floats(0.001, 2), st.floats(1e-6, 0.1), st.sets(st.integers(1, 20_000), min_size=2, max_size=9))
def test_a_fit_finds_the_line_it_was_given(a, b, tokens):
    line = fit_odds(sorted(tokens), [a + b * one for one in sorted(tokens)])
    at = np.array(sorted(tokens))
    np.testing.assert_allclose(line.odds(at), a + b * at, rtol=1e-6)
    if max(tokens) > 2 * min(tokens):
        assert line.b == pytest.approx(b, rel=1e-3, abs=1e-9)


def test_a_fit_of_points_off_the_line_makes_relative_errors_small():
    """Least squares of (1 - b x / y) in one unknown, by hand: b = sum(x / y) / sum(x² / y²), with a = 0 by symmetry."""
    line = fit_odds([100, 100, 200, 200], [0.9, 1.1, 1.8, 2.2])
    expected = (2 / 0.9 + 2 / 1.1) / (2 / 0.9**2 + 2 / 1.1**2)
    assert line.odds(100) == pytest.approx(expected) and line.odds(200) == pytest.approx(2 * expected)


def test_a_line_says_its_delta_and_mass():
    line = OddsLine(a=0.5, b=math.exp(-7))
    assert line.delta == pytest.approx(7)
    assert line.mass(1000) == pytest.approx(1 / (1 + 0.5 + 1000 * math.exp(-7)))


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (mass, (0, 1.0), "tokens must be 1 or more"),
        (delta, (1, 0.5), "tokens must be 2 or more"),
        (delta, (10, 1.0), "mass must lie between 0 and 1"),
        (noise_odds, (0.0,), "mass must lie between 0 and 1"),
        (after_deleting, (0.5, 1.0), "gone must be"),
        (after_deleting, (0.5, -0.1), "gone must be"),
        (mass_with, (0.1, {"a": 1, "b": 2}, {"a": 1.0}), "missing b"),
        (fit_odds, ([1, 1], [1.0, 2.0]), "two lengths"),
        (fit_odds, ([1, 2], [1.0]), "pairs"),
        (fit_odds, ([1, 2], [1.0, 0.0]), "odds above 0"),
    ],
)
def test_what_has_no_answer_is_refused(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)


# ---------------------------------------------------------------- measured


def test_a_model_with_half_of_its_attention_on_the_needle():
    """Mass 1/2 at every length: odds 1, and a delta that grows as ln(tokens - 1), unlike the frozen one."""
    rows = dilution(LastValue(), PLAIN, [64, 257, 1025], frozen_at=257, trials=6)
    assert [row["tokens"] for row in rows] == [64, 257, 1025]
    for row in rows:
        assert (row["n"], row["accuracy"], row["high"]) == (6, 1.0, 1.0)
        assert (row["mass"], row["odds"]) == (pytest.approx(0.5), pytest.approx(1))
        assert row["delta"] == pytest.approx(math.log(row["tokens"] - 1))
    assert [row["theory"] for row in rows] == pytest.approx([1 / (1 + 63 / 256), 0.5, 1 / 5])


def test_the_theory_meets_the_measurement_where_it_was_frozen():
    model = random_model()
    rows = dilution(model, ALL_FACTS, [64, 256], trials=10)
    outcomes = run(model, [ALL_FACTS], [256], trials=10)["100 % facts", "everything", 256]
    assert rows[1]["mass"] == pytest.approx(np.mean([one.mass for one in outcomes]))
    assert rows[1]["theory"] == pytest.approx(rows[1]["mass"], rel=1e-5)  # averaged over trials and heads, each exact
    assert rows[0]["theory"] != pytest.approx(rows[0]["mass"], rel=1e-5)
    with pytest.raises(ValueError, match="frozen_at must be one of the lengths"):
        dilution(model, ALL_FACTS, [64])
