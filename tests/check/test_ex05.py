"""Exercise 05's checks: right answers pass in any form, and every usual mistake is caught and called by its name.

The wrong answers stand here once more, written apart from the checks, so that a slip in a check shows.
"""

import itertools
from datetime import date
from fractions import Fraction

import numpy as np
import pytest

from kvlib.anchors import anchor, owner
from kvlib.check import ex05
from kvlib.check.ex05 import counted, designs, hours, tokens
from kvlib.cost import cost_per_million, keep_usd_per_hour, margin
from kvlib.currency import exchange_rate
from kvlib.deepseek_day import published_day
from kvlib.hardware import gpu
from kvlib.owning import Ownership
from kvlib.prices import price
from tests.check import exercise_pages as pages

GB, GiB, MIB = 10**9, 2**30, 2**20
QUESTIONS = pages.questions(ex05)

RIGHT = {
    "margin_percent": lambda revenue, cost: 100 * (1 - cost / revenue),
    "power_per_hour": lambda watts, pue, cents: watts * pue * cents / 100_000,
    "owned_per_hour": lambda yen, rate, s, n, years, rest: (yen / rate + s + n) * (100 - rest) / (876_000 * years),
    "usd_per_million": lambda usd, gpus, speed, u: usd * gpus * 1e8 / (3_600 * speed * u),
    "bill": lambda sent, hit, out, a, b, c: ((sent - hit) * a + hit * b + out * c) / 1e6,
    "held_per_hour": lambda cache, mib, usd: usd * cache * GB / (mib * MIB),
}


def capital(yen, rate, server, network, years, rest):
    return RIGHT["owned_per_hour"](yen, rate, server, network, years, rest)


def million(usd, gpus, speed, u):
    return RIGHT["usd_per_million"](usd, gpus, speed, u)


WRONG = {
    "margin_percent": {
        "markup for margin": lambda r, c: 100 * (r / c - 1),
        "revenue over cost": lambda r, c: 100 * r / c,
        "cost for profit": lambda r, c: 100 * c / r,
        "a share for percent": lambda r, c: 1 - c / r,
        "dollars for percent": lambda r, c: r - c,
    },
    "power_per_hour": {
        "PUE forgotten": lambda w, pue, cents: w * cents / 1e5,
        "divided by the PUE": lambda w, pue, cents: w * cents / pue / 1e5,
        "PUE as the share on top": lambda w, pue, cents: (w + w * pue) * cents / 1e5,
        "cooling only": lambda w, pue, cents: w * (pue - 1) * cents / 1e5,
        "cents for dollars": lambda w, pue, cents: w * pue * cents / 1e3,
        "watts for kilowatts": lambda w, pue, cents: w * pue * cents / 1e2,
        "a whole day": lambda w, pue, cents: 24 * w * pue * cents / 1e5,
    },
    "owned_per_hour": {
        "yen and dollar inverted": lambda y, r, s, n, t, rest: capital(y, 1 / r, s, n, t, rest),
        "yen taken for dollars": lambda y, r, s, n, t, rest: capital(y, 1, s, n, t, rest),
        "bare card": lambda y, r, s, n, t, rest: capital(y, r, 0, 0, t, rest),
        "bare card, and residual ignored": lambda y, r, s, n, t, rest: capital(y, r, 0, 0, t, 0),
        "network forgotten": lambda y, r, s, n, t, rest: capital(y, r, s, 0, t, rest),
        "server forgotten": lambda y, r, s, n, t, rest: capital(y, r, 0, n, t, rest),
        "residual ignored": lambda y, r, s, n, t, rest: capital(y, r, s, n, t, 0),
        "residual for what is lost": lambda y, r, s, n, t, rest: capital(y, r, s, n, t, 100 - rest),
        "residual of the card only": lambda y, r, s, n, t, rest: (
            capital(y, r, 0, 0, t, rest) + capital(0, r, s, n, t, 0)
        ),
        "residual every year": lambda y, r, s, n, t, rest: capital(y, r, s, n, t, 0) * (1 - rest / 100) ** t,
        "one year": lambda y, r, s, n, t, rest: capital(y, r, s, n, 1, rest),
        "working hours": lambda y, r, s, n, t, rest: capital(y, r, s, n, t, rest) * 8_760 / (52 * 40),
    },
    "usd_per_million": {
        "utilisation forgotten": lambda usd, g, v, u: million(usd, g, v, 100),
        "utilisation multiplied": lambda usd, g, v, u: million(usd, g, v, 100) * u / 100,
        "percent for a share": lambda usd, g, v, u: million(usd, g, v, u) / 100,
        "one GPU paid": lambda usd, g, v, u: million(usd, 1, v, u),
        "an hour of one second": lambda usd, g, v, u: million(usd, g, v, u) * 3_600,
        "an hour of one minute": lambda usd, g, v, u: million(usd, g, v, u) * 60,
        "one token": lambda usd, g, v, u: million(usd, g, v, u) / 1e6,
        "tokens per dollar": lambda usd, g, v, u: 1 / million(usd, g, v, u),
    },
    "bill": {
        "cached tokens at full price": lambda s, h, o, a, b, c: RIGHT["bill"](s, 0, o, a, b, c),
        "cached tokens twice": lambda s, h, o, a, b, c: RIGHT["bill"](s + h, h, o, a, b, c),
        "cached tokens for nothing": lambda s, h, o, a, b, c: RIGHT["bill"](s, h, o, a, 0, c),
        "everything cached": lambda s, h, o, a, b, c: RIGHT["bill"](s, s, o, a, b, c),
        "input billed as output": lambda s, h, o, a, b, c: RIGHT["bill"](s, h, o, c, b, c),
        "all tokens at the price of output": lambda s, h, o, a, b, c: RIGHT["bill"](s, h, o, c, c, c),
        "prefill free": lambda s, h, o, a, b, c: o * c / 1e6,
        "output forgotten": lambda s, h, o, a, b, c: RIGHT["bill"](s, h, 0, a, b, c),
        "prices swapped": lambda s, h, o, a, b, c: RIGHT["bill"](s, h, o, b, a, c),
        "price per token": lambda s, h, o, a, b, c: RIGHT["bill"](s, h, o, a, b, c) * 1e6,
        "price per thousand": lambda s, h, o, a, b, c: RIGHT["bill"](s, h, o, a, b, c) * 1e3,
    },
    "held_per_hour": {
        "GB for GiB": lambda cache, mib, usd: usd * cache * GiB / (mib * MIB),
        "MiB for MB": lambda cache, mib, usd: usd * cache * GB / (mib * 10**6),
        "whole cards": lambda cache, mib, usd: usd * (cache * GB // (mib * MIB) + 1),
        "the hour inverted": lambda cache, mib, usd: cache * GB / (mib * MIB * usd),
        "share turned over": lambda cache, mib, usd: usd * mib * MIB / (cache * GB),
        "price ignored": lambda cache, mib, usd: cache * GB / (mib * MIB),
    },
}
# The same mistake in another form.
ALSO_WRONG = [("usd_per_million", "one GPU paid", lambda usd, g, v, u: million(usd, g, v * g, u))]
EVERY_WRONG = pages.every_mistake(WRONG, ALSO_WRONG)
SOLVED = {"owned": 145, "reserved": 35}


def run(name, function):
    return getattr(ex05, name)(function)


# ---------------------------------------------------------------- right answers


@pytest.mark.parametrize("name", RIGHT)
@pages.in_each_form(*pages.REAL_FORMS)
def test_a_right_answer_passes_in_any_form(name, form):
    pages.assert_right(run(name, lambda *inputs: form(RIGHT[name](*inputs))), name)


@pytest.mark.parametrize("name", RIGHT)
def test_an_answer_that_was_rounded_is_not_exact(name):
    result = run(name, lambda *inputs: RIGHT[name](*inputs) * 1.0001)
    assert not result.ok
    assert result.mistake is None


# ---------------------------------------------------------------- the truth itself


def test_the_ledger_and_kvlib_agree():
    for case in tokens.MARGIN_PERCENT.cases:
        assert counted.margin_percent(**case.inputs) == pytest.approx(100 * margin(*case.inputs.values()))
    for case in hours.POWER_PER_HOUR.cases:
        watts, pue, cents = case.inputs.values()
        mine = Ownership(0, 1, kilowatts=watts / 1_000, pue=pue, usd_per_kwh=cents / 100)
        assert counted.power_per_hour(**case.inputs) == pytest.approx(mine.usd_per_gpu_hour.point)
    for case in hours.OWNED_PER_HOUR.cases:
        yen, rate, server, network, years, rest = case.inputs.values()
        mine = Ownership(yen / rate, years, server_usd=server, network_usd=network, residual=rest / 100)
        assert counted.owned_per_hour(**case.inputs) == pytest.approx(mine.usd_per_gpu_hour.point)
    for case in tokens.USD_PER_MILLION.cases:
        usd, gpus, speed, percent = case.inputs.values()
        see = cost_per_million(usd, gpus=gpus, utilisation=percent / 100, output_per_second=speed)
        assert counted.usd_per_million(**case.inputs) == pytest.approx(see.output.point)
    for case in hours.HELD_PER_HOUR.cases:
        cache, mib, usd = case.inputs.values()
        assert counted.held_per_hour(**case.inputs) == pytest.approx(
            keep_usd_per_hour(cache * GB, usd, mib * MIB).point
        )


def test_the_cases_carry_the_recorded_figures():
    day = published_day()
    assert tokens.MARGIN_PERCENT.cases[0].inputs == {"revenue": day.revenue_usd, "cost": day.cost_usd}
    v3, v32 = (price("deepseek-chat", when) for when in (date(2025, 3, 1), date(2025, 10, 21)))
    sold = [case.inputs["revenue"] for case in tokens.MARGIN_PERCENT.cases[1:3]]
    assert sold == [round(day.revenue(v3), -2), round(day.revenue(v32), -2)]
    whole_day = tokens.BILL.cases[2].inputs
    assert list(whole_day.values())[:3] == [day.input_tokens, day.cached_tokens, day.output_tokens]
    assert counted.bill(**whole_day) == pytest.approx(day.revenue())
    for case, model, when in (
        (0, "claude-sonnet-4-5", date(2025, 10, 21)),
        (1, "gemini-2.5-pro", date(2025, 7, 15)),
        (3, "claude-sonnet-4-5", date(2025, 10, 21)),
    ):
        given = tokens.BILL.cases[case].inputs
        see = price(model, when).bill(
            given["input_tokens"], given["output_tokens"], cached_tokens=given["cached_tokens"]
        )
        assert counted.bill(**given) == pytest.approx(float(see.usd)), case
    rates = [case.inputs["yen_per_usd"] for case in hours.OWNED_PER_HOUR.cases[2:]]
    assert rates == [exchange_rate("JPY", date(2025, 10, day)).value for day in (21, 23, 20)]
    assert [case.inputs["cents_per_kwh"] for case in hours.POWER_PER_HOUR.cases] == pytest.approx(
        [100 * anchor(f"electricity-us-{month}").value for month in ("2025-10", "2025-10", "2025-04", "2026-01")]
    )
    shown = [gpu(name).visible_bytes / MIB for name in ("h100-sxm", "h100-sxm", "h200-sxm", "b200")]
    assert [case.inputs["visible_mib"] for case in hours.HELD_PER_HOUR.cases] == shown
    assert tokens.USD_PER_MILLION.cases[0].inputs["tokens_per_second"] == anchor("mlperf-llama-2-70b").value


def test_the_published_cost_of_tokens_comes_out():
    usd, gpus, speed, percent = tokens.USD_PER_MILLION.cases[0].inputs.values()
    assert round(counted.usd_per_million(usd, gpus, speed, percent), 3) == 0.175
    assert round(counted.usd_per_million(2.00, 8, 22_300, 100), 2) == 0.20


def test_the_fleet_is_priced_by_the_owner_of_the_lesson():
    honest = owner("honest")
    assert round(800 * round(honest.usd_per_gpu_hour.point, 2)) == counted.OWN
    assert round(8 * honest.capex_usd.point) == counted.NODE_USD
    day = published_day()
    assert (sum(counted.DEMAND) / 24, max(counted.DEMAND)) == (day.average_nodes, day.peak_nodes)


# ---------------------------------------------------------------- mistakes are named


@pages.for_each_mistake(EVERY_WRONG)
def test_a_usual_mistake_is_caught_and_named(name, mistake, function):
    pages.assert_named(run(name, function), QUESTIONS[name], mistake)


def test_no_listed_mistake_goes_without_a_wrong_answer():
    listed = {name: {slip.name for slip in question.slips} for name, question in QUESTIONS.items()}
    assert listed == {name: set(wrong) for name, wrong in WRONG.items()}


def test_different_mistakes_give_different_answers_somewhere():
    pages.assert_answers_differ(QUESTIONS, RIGHT, WRONG)


def test_a_line_shows_the_answer_the_truth_and_the_reason():
    result = run("margin_percent", WRONG["margin_percent"]["markup for margin"])
    assert result.lines[0] == "margin_percent: not yet, 0 of 4 cases"
    assert result.lines[1] == (
        "  wrong  the published day: 545.474 %, not 84.5075: that is the markup, profit for 100 USD of cost; "
        "the margin is profit for 100 USD of revenue"
    )


def test_an_unknown_constant_factor_is_pointed_out():
    result = run("power_per_hour", lambda *inputs: 7 * RIGHT["power_per_hour"](*inputs))
    assert result.lines[-1].startswith("  Every wrong answer is 7 times the right one.")
    result = run("usd_per_million", lambda *inputs: RIGHT["usd_per_million"](*inputs) * 2 / 3)
    assert result.lines[-1].startswith("  Every wrong answer is 2/3 of the right one.")
    strange = run("power_per_hour", lambda *inputs: 3.14159265 * RIGHT["power_per_hour"](*inputs))
    assert "Every wrong answer" not in repr(strange)


# ---------------------------------------------------------------- the two designs


def test_the_target_is_near_the_least_that_the_budget_allows():
    most = counted.BUDGET_USD // counted.NODE_USD
    fleets = [{"owned": o, "reserved": r} for o in range(most + 1) for r in range(max(counted.DEMAND) + 1)]
    cents = {tuple(design.values()): counted.fleet_cents(design) for design in fleets}
    assert min(cents, key=cents.get) == tuple(SOLVED.values())
    assert min(cents.values()) == 9_425_680
    passing = [design for design, usd in cents.items() if usd <= 100 * designs.TARGET_USD]
    assert passing == [(most, reserved) for reserved in range(35, 40)]
    assert all(ex05.fleet(lambda d=design: dict(zip(SOLVED, d, strict=True))).ok for design in passing)


@pytest.mark.parametrize("form", [int, float, np.int64, Fraction])
def test_the_solved_fleet_passes_in_any_form(form):
    pages.assert_passes(ex05.fleet, {key: form(value) for key, value in SOLVED.items()}, rules=2)


@pytest.mark.parametrize(
    ("owned", "reserved", "mistake", "says"),
    [
        (278, 0, "budget broken", "278 nodes cost 95,632,000 USD on the first day, and there are 50,000,000"),
        (0, 0, "everything by the hour", "the day costs 128,431 USD, 34,161 too many; you rent everything by the hour"),
        (145, 133, "built for the peak", "278 nodes are there all day for a peak of 278"),
        (145, 82, "built for the average", "you covered the average of 227"),
        (145, 20, "built for the night", "you covered what runs all day"),
        (100, 80, "reserved for owned", "an owned hour is cheaper than a reserved one, and the budget buys 145 nodes"),
        (145, 50, "too dear", "look at the node that you added last"),
    ],
)
def test_a_fleet_that_is_too_dear_is_told_why(owned, reserved, mistake, says):
    pages.assert_told(ex05.fleet, {"owned": owned, "reserved": reserved}, mistake, says)


@pytest.mark.parametrize("change", [{"rent_cents": 25}, {"usd_per_mwh": 500}, {"watts": 11_000}])
def test_the_rule_can_be_broken_in_several_ways(change):
    pages.assert_passes(ex05.broken_rule, designs.ARTICLE_CARD | change, rules=3)


@pytest.mark.parametrize(
    ("change", "mistake", "says"),
    [
        ({}, "nothing changed", "there the rule is 9 % off"),
        ({"rent_cents": 25, "watts": 2_000}, "more than one change", "you changed rent_cents, watts"),
        ({"rent_cents": 10}, "buying never pays", "an hour of power costs 0.15 USD and the rent 0.10"),
        ({"price_usd": 500_000}, "still nearly right", "the rule says 294,118 hours and it takes 322,3"),
        ({"rent_cents": 265}, "still nearly right", "not twice as many"),
    ],
)
def test_a_rule_that_is_not_broken_is_explained(change, mistake, says):
    pages.assert_told(ex05.broken_rule, designs.ARTICLE_CARD | change, mistake, says)


def test_the_article_s_card_is_the_recorded_one():
    article = owner("article")
    assert round(article.given("price_usd").point) == designs.ARTICLE_CARD["price_usd"]
    assert article.given("kilowatts").point * 1_000 == designs.ARTICLE_CARD["watts"]
    assert int(1_000 * article.given("usd_per_kwh").point) == designs.ARTICLE_CARD["usd_per_mwh"]


# ---------------------------------------------------------------- what a notebook shows


def every_result():
    yield from pages.all_answers(run, RIGHT, EVERY_WRONG)
    for owned, reserved in itertools.product(range(0, 160, 20), range(0, 140, 20)):
        yield ex05.fleet(lambda o=owned, r=reserved: {"owned": o, "reserved": r})


def test_results_are_short_deterministic_text_without_code_of_the_answer():
    pages.assert_short_text_without_code(every_result)
