import math
import subprocess
import sys
from decimal import Decimal
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvlib.anchors import owner
from kvlib.ranges import POSITIVE, SHARE, Estimate, Range, amount, combine

finite = st.floats(min_value=0, max_value=1e6)
ranges = st.lists(finite, min_size=2, max_size=3).map(sorted).map(tuple)


def total(*values):
    return math.fsum(values)


def test_a_number_gives_no_range():
    seven = amount("years", 7)
    assert (seven.point, seven.low, seven.high, seven.least, seven.most) == (7, 7, 7, 7, 7)
    assert seven.tornado() == ()
    assert repr(seven) == "7.000 (no input is a range)"


@pytest.mark.parametrize("value", [4, 4.0, Decimal(4)])
def test_numbers_of_all_kinds_are_taken(value):
    assert amount("years", value).point == 4


def test_a_uniform_input_has_uniform_percentiles():
    rent = amount("rent", (1.0, 3.0), label="rent")
    assert rent.point == 2
    assert rent.low == pytest.approx(1 + 0.05 * 2, abs=2 / 1_000)
    assert rent.high == pytest.approx(1 + 0.95 * 2, abs=2 / 1_000)
    assert (rent.least, rent.most) == (1, 3)


def test_a_triangle_has_the_percentiles_of_its_area():
    # density rises from 1 to 2 and falls to 5: below 2 lies a quarter of the area, and F(x) = (x-1)^2 / 4 there
    price = amount("price", (1, 2, 5), label="price")
    assert price.point == 2
    assert price.percentile(0.25) == pytest.approx(2, abs=0.01)
    assert price.low == pytest.approx(1 + math.sqrt(0.05 * 4), abs=0.01)
    assert price.high == pytest.approx(5 - math.sqrt(0.05 * 12), abs=0.01)


def test_the_sum_of_two_uniform_inputs_has_the_known_percentiles():
    # F(x) = x^2 / 2 up to 1, so 5 % lie below sqrt(0.1)
    both = combine(total, amount("a", (0, 1)), amount("b", (0, 1)))
    # an end of 2,000 draws has a standard error of sqrt(0.05 x 0.95 / 2,000) / density = 0.015
    assert both.low == pytest.approx(math.sqrt(0.1), abs=0.045)
    assert both.high == pytest.approx(2 - math.sqrt(0.1), abs=0.045)
    assert both.percentile(0.5) == pytest.approx(1, abs=0.02)


def test_an_input_on_both_sides_moves_on_both_sides():
    first, again = amount("rent", (1, 9), label="rent"), amount("rent", (1, 9), label="rent")
    assert set(combine(lambda a, b: a - b, first, again).draws()) == {0.0}


def test_draws_repeat_under_a_seed_and_change_with_it():
    result = combine(total, amount("a", (0, 1)), amount("b", (5, 6)))
    assert result.draws() == result.draws()
    assert result.draws(seed=2) != result.draws()
    assert result.draws(draws=50)[0] >= 5 and len(result.draws(draws=50)) == 50


def test_a_tornado_puts_the_widest_bar_first_and_its_swings_add_up():
    result = combine(total, amount("narrow", (1, 2)), amount("wide", (10, 40)), amount("fixed", 5))
    bars = result.tornado()
    assert [bar.name for bar in bars] == ["wide", "narrow"]
    assert (bars[0].low_input, bars[0].high_input, bars[0].at_low, bars[0].at_high) == (10, 40, 16.5, 46.5)
    assert math.fsum(bar.swing for bar in bars) == result.most - result.least == 31
    assert [bar.share for bar in bars] == [30 / 31, 1 / 31]


@given(st.lists(ranges, min_size=1, max_size=6))
def test_the_swings_of_a_sum_add_up_to_its_whole_width(given_ranges):
    result = combine(total, *(amount(f"input {i}", value) for i, value in enumerate(given_ranges)))
    swings = math.fsum(bar.swing for bar in result.tornado())
    assert swings == pytest.approx(result.most - result.least, rel=1e-9, abs=1e-6)
    shares = math.fsum(bar.share for bar in result.tornado())
    assert shares == pytest.approx(1) or swings == 0 == shares


@given(ranges, ranges, st.floats(0, 1), st.floats(0, 1))
@settings(deadline=None)
def test_every_result_of_inputs_inside_lies_inside(first, second, p, q):
    a, b = amount("a", first, label="a"), amount("b", second, label="b")
    result = combine(lambda x, y: x * y + x, a, b)
    inside = result.at({"a": a.inputs["a"].at(p), "b": b.inputs["b"].at(q)})
    slack = 1e-9 * abs(result.most)
    assert result.least - slack <= inside <= result.most + slack
    assert result.least - slack <= result.low <= result.high <= result.most + slack
    assert result.least - slack <= result.point <= result.most + slack


@given(ranges, st.floats(0, 1), st.floats(0, 1))
def test_a_higher_probability_never_gives_a_lower_value(ends, p, q):
    given_range = Range(ends[0], ends[-1], ends[1] if len(ends) == 3 else None)
    assert given_range.at(min(p, q)) <= given_range.at(max(p, q)) + 1e-9 * given_range.high
    assert given_range.low <= given_range.at(p) <= given_range.high


def test_the_extremes_are_those_of_all_corners():
    hour = owner("honest").usd_per_gpu_hour
    names = list(hour.inputs)
    corners = product(*((given_range.low, given_range.high) for given_range in hour.inputs.values()))
    results = [hour.at(dict(zip(names, corner, strict=True))) for corner in corners]
    assert (hour.least, hour.most) == (min(results), max(results))


def test_two_different_inputs_cannot_share_a_name():
    with pytest.raises(ValueError, match=r"two different inputs are called 'rent'.*different names"):
        combine(total, amount("rent", (1, 2), label="rent"), amount("rent", (1, 3), label="rent"))


def test_an_unknown_input_is_named():
    with pytest.raises(ValueError, match="input must be one of rent; got 'price'"):
        amount("rent", (1, 2)).at({"price": 1})


MORE_BAD = [("1", "2"), None, True, [1, 2], 1j, 10**400, {"low": 1}]


@pytest.mark.parametrize(
    "bad",
    [-1, (-1, 2), (2, 1), (1, 3, 2), (1,), (1, 2, 3, 4), math.nan, (1, math.nan), math.inf, "4", *MORE_BAD],
)
def test_what_is_no_amount_is_refused_with_its_name_and_value(bad):
    with pytest.raises(ValueError, match="years must be a number above 0") as error:
        amount("years", bad, POSITIVE)
    assert repr(bad) in str(error.value)


@pytest.mark.parametrize("bad", [0, (0, 1), amount("x", (0, 3))])
def test_limits_hold_at_both_ends(bad):
    with pytest.raises(ValueError, match="years must be a number above 0"):
        amount("years", bad, POSITIVE)
    with pytest.raises(ValueError, match="share must be a number 0 or more and at most 1, or a range"):
        amount("share", (0.5, 1.5), SHARE)


@pytest.mark.parametrize("bad", [(2, 1, None), (1, 2, 3), (math.nan, 2, None)])
def test_a_range_must_be_in_order(bad):
    with pytest.raises(ValueError, match="a range must be low"):
        Range(*bad)


def test_an_infinite_result_reads_never():
    assert repr(Estimate({}, lambda _: math.inf, "hours")) == "never hours (no input is a range)"


def test_scalar_questions_need_neither_numpy_nor_the_price_package():
    code = (
        "import sys, kvlib.cost, kvlib.anchors, kvlib.deepseek_day, kvlib.prices as p\n"
        "kvlib.deepseek_day.published_day().lines(), kvlib.anchors.owner().usd_per_gpu_hour.high\n"
        "assert not {'numpy', 'genai_prices', 'pydantic', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
