from datetime import date

import pytest

from kvlib.cost import margin, markup
from kvlib.deepseek_day import published_day
from kvlib.prices import price

DAY = published_day()
LINES = {step.what: step for step in DAY.lines()}


def test_the_cost_is_exact():
    assert DAY.cost == DAY.cost_usd == 87_072 == 226.75 * 8 * 2 * 24
    assert LINES["cost, USD"].off == 0


def test_the_revenue_is_within_a_twentieth_of_a_percent():
    assert DAY.revenue() == pytest.approx(562_100)
    assert abs(LINES["revenue, USD"].off) < 0.0005
    assert abs(LINES["revenue, USD"].off) < 0.0002  # the token counts are printed in billions


def test_the_implied_nodes_are_within_a_tenth_of_a_percent():
    assert round(DAY.prefill_nodes, 1) == 95.5
    assert round(DAY.decode_nodes, 1) == 131.4
    assert abs(LINES["nodes"].off) < 0.001


def test_545_is_a_markup_not_a_margin():
    for revenue in (DAY.revenue(), DAY.revenue_usd):
        assert 100 * markup(revenue, DAY.cost) == pytest.approx(545, abs=1)
        assert 100 * margin(revenue, DAY.cost) == pytest.approx(84.5, abs=0.1)
    assert LINES["markup on cost, %"].ours == pytest.approx(LINES["markup on cost, %"].published, abs=1)


def test_hits_and_load():
    assert LINES["cache hits, share"].ours == pytest.approx(0.563, abs=0.001)
    assert round(LINES["average / peak nodes, %"].ours, 1) == 81.6


def test_the_cost_of_a_token():
    # 16 USD per node-hour at 73,700 and at 14,800 tokens per second
    assert DAY.prices.input.point == pytest.approx(16 / 3_600 / 73_700 * 1e6)
    assert round(DAY.prices.input.point, 3) == 0.060
    assert round(DAY.prices.output.point, 3) == 0.300
    new = DAY.input_tokens - DAY.cached_tokens
    assert round(DAY.prices.input.point * DAY.input_tokens / new, 3) == 0.138


def test_the_cache_on_a_decoding_gpu():
    few, many = DAY.writing
    assert few < 1_944_444 / 21 < many
    assert round(DAY.cache_bytes_per_gpu() / 1e9, 1) == 30.9


def test_the_same_tokens_at_other_prices():
    v3, v32 = (price("deepseek-chat", day) for day in (date(2025, 3, 1), date(2025, 10, 21)))
    assert round(DAY.revenue(v3), -2) == 280_600
    assert round(100 * markup(DAY.revenue(v3), DAY.cost)) == 222
    assert round(DAY.revenue(v32), -2) == 154_600
    assert round(100 * markup(DAY.revenue(v32), DAY.cost)) == 78
    assert round(DAY.revenue(discount=False), -2) == 702_300
    r1 = price("deepseek-reasoner", date(2025, 3, 1))
    assert r1.rates == DAY.list_price


def test_the_day_has_a_source_and_a_date():
    assert "open-infra-index" in DAY.source.title
    assert DAY.as_of == "2025-03-01"
