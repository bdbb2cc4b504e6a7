from dataclasses import replace
from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvlib.bills import Rates
from kvlib.cache_rules import cache_rule
from kvlib.payback import reads_to_pay, requests_to_pay, reuses_per_hour, search_requests_to_pay
from kvlib.prices import price

TODAY = date(2026, 11, 20)
SPANS = (Fraction(1, 12), 1, 24)  # hours: five minutes, an hour, a day

# Worked out apart from this package, from the price lists alone: prefix tokens, s / (p - c), and the least requests.
EXPLICIT = [
    ("gemini-2.5-pro", TODAY, 100_000, 4.0, (2, 6, 98)),
    ("gemini-2.5-pro", date(2025, 7, 1), 100_000, 4.787, (2, 7, 117)),
    ("gemini-2.5-pro", TODAY, 300_000, 2.0, (2, 4, 50)),
    ("gemini-2.5-pro", date(2025, 7, 1), 300_000, 2.4, (2, 4, 59)),
    ("gemini-1.5-pro", date(2025, 1, 15), 300_000, 2.4, (2, 4, 59)),
    ("gemini-2.5-flash", TODAY, 100_000, 3.704, (2, 5, 91)),
    ("gemini-2.5-flash", date(2025, 6, 15), 100_000, 4.444, (2, 6, 109)),
    ("gemini-3-pro-preview", TODAY, 300_000, 1.25, (2, 3, 32)),
    ("gemini-3.8-flash", TODAY, 100_000, 0.741, (2, 2, 19)),
]


@pytest.mark.parametrize(("model", "day", "tokens", "per_hour", "least"), EXPLICIT)
def test_the_table_of_explicit_caches_by_formula_and_by_bills(model, day, tokens, per_hour, least):
    found = price(model, day)
    assert round(reuses_per_hour(found, tokens), 3) == per_hour
    assert tuple(requests_to_pay(found, "gemini-explicit", tokens, span) for span in SPANS) == least
    assert tuple(search_requests_to_pay(found, "gemini-explicit", tokens, span) for span in SPANS) == least


@pytest.mark.parametrize(
    ("write", "read", "breakeven", "first"),
    [
        (1.25, 0.1, 0.2778, 1),
        (2.0, 0.1, 1.1111, 2),
        (1.25, 0.05, 0.2632, 1),
        (2.0, 0.05, 1.0526, 2),
        (1.25, 0.025, 0.2564, 1),
        (2.0, 0.025, 1.0256, 2),
    ],
)
def test_the_table_of_written_caches(write, read, breakeven, first):
    assert round(float(reads_to_pay(write, read)), 4) == breakeven
    rule = "anthropic-5m" if write == 1.25 else "anthropic-1h"
    model = {0.1: "claude-sonnet-4-5", 0.05: "claude-opus-5-5", 0.025: "claude-fable-5-1"}[read]
    assert requests_to_pay(price(model, TODAY), rule, 50_000) == first + 1
    assert search_requests_to_pay(price(model, TODAY), rule, 50_000) == first + 1


@pytest.mark.parametrize(
    ("rule", "model", "hours", "least"),
    [
        ("anthropic-5m", "claude-sonnet-4-5", 1, 12),  # one every five minutes, or it is forgotten
        ("anthropic-1h", "claude-sonnet-4-5", 1, 3),
        ("anthropic-1h", "claude-sonnet-4-5", 24, 24),
        ("openai-automatic", "gpt-5", 0, 2),
        ("openai-automatic", "gpt-5", Fraction(1, 2), 6),
        ("openai-breakpoint", "gpt-6.1-sol", 2, 4),
        ("deepseek-units", "deepseek-v4-flash", 0, 3),  # the second shows what they share, the third hits
    ],
)
def test_a_cache_that_forgets_needs_a_request_in_time(rule, model, hours, least):
    ttl = 7_200 if cache_rule(rule).ttl is None else None
    assert requests_to_pay(price(model, TODAY), rule, 50_000, hours, ttl=ttl) == least
    assert search_requests_to_pay(price(model, TODAY), rule, 50_000, hours, ttl=ttl) == least


def test_never():
    found = price("gemini-2.5-pro", TODAY)
    assert requests_to_pay(found, "gemini-explicit", 2_047, 1) is None  # below the minimum
    assert search_requests_to_pay(found, "gemini-explicit", 2_047, 1, most=20) is None
    no_discount = replace(found, rates=replace(found.rates, cached_input=found.rates.input))
    assert requests_to_pay(no_discount, "gemini-explicit", 50_000, 1) is None
    assert search_requests_to_pay(no_discount, "gemini-explicit", 50_000, 1, most=20) is None


def test_between_the_two_tiers_creation_is_cheap_and_reading_dear():
    """199,950 tokens are created below the threshold, and read above it with their question."""
    found = price("gemini-2.5-pro", TODAY)
    assert requests_to_pay(found, "gemini-explicit", 199_950, 1, question=100) == 3  # (1.25 + 4.5) / 2.25 = 2.56
    assert search_requests_to_pay(found, "gemini-explicit", 199_950, 1, question=100) == 3


cents = st.integers(1, 400).map(lambda n: Decimal(n) / 100)


@given(cents, cents, st.integers(0, 900), st.integers(0, 240), st.sampled_from([5_000, 199_990, 300_000]))
@settings(deadline=None, max_examples=40)
def test_formula_and_bills_agree_for_any_explicit_price(new, cached, rent, eighths, tokens):
    rates = Rates(new, Decimal(10), cached)
    dear = Rates(2 * new, Decimal(15), cached * 2)
    made_up = replace(price("gemini-2.5-pro", TODAY), rates=rates, long=dear, storage=Decimal(rent) / 100)
    hours = Fraction(eighths, 8)
    found = requests_to_pay(made_up, "gemini-explicit", tokens, hours, question=10)
    if found is None or found <= 30:
        assert search_requests_to_pay(made_up, "gemini-explicit", tokens, hours, question=10, most=30) == found


@given(
    st.sampled_from(["anthropic-5m", "anthropic-1h"]),
    *[st.integers(1, 40)] * 3,
    st.integers(0, 16),
    st.integers(60, 4_000),
)
@settings(deadline=None, max_examples=40)
def test_formula_and_bills_agree_for_any_written_price(rule, new, cached, written, quarters, ttl):
    rates = Rates(*(Decimal(n) for n in (new, 50, cached, written, written)))
    made_up = replace(price("claude-opus-5", TODAY), rates=rates)
    found = requests_to_pay(made_up, rule, 9_000, Fraction(quarters, 4), ttl=ttl)
    if found is None or found <= 30:
        tried = search_requests_to_pay(made_up, rule, 9_000, Fraction(quarters, 4), ttl=ttl, most=30)
        assert tried == found


def test_storing_for_an_hour_costs_more_than_sending_again():
    found = price("gemini-2.5-pro", TODAY)
    assert found.storage > found.at(1_000_000).input == Decimal("2.5")


def test_bad_input_is_named():
    found = price("gemini-2.5-pro", TODAY)
    with pytest.raises(ValueError, match="hours must be 0 or more; got -1"):
        requests_to_pay(found, "gemini-explicit", 9_000, -1)
    with pytest.raises(ValueError, match="hours must be 0 or more; got nan"):
        requests_to_pay(found, "gemini-explicit", 9_000, float("nan"))
    with pytest.raises(ValueError, match="tokens must be a whole number, 1 or more; got 0"):
        requests_to_pay(found, "gemini-explicit", 0)
    with pytest.raises(ValueError, match="ttl must be seconds above 0: Gemini, implicit publishes no number"):
        requests_to_pay(found, "gemini-implicit", 9_000, 1)
    with pytest.raises(ValueError, match="write must be at least 1"):
        reads_to_pay(0.9, 0.1)
    with pytest.raises(ValueError, match="storage"):
        reuses_per_hour(price("gpt-5", TODAY))
