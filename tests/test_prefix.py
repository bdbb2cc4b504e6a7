import math
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from genai_prices import Usage, calc_price
from hypothesis import given, settings
from hypothesis import strategies as st

from kvlib.cache_rules import cache_rule, cache_rules, rules_for
from kvlib.prefix import session_bill
from kvlib.prices import PACKAGE, own_records, price, prices
from kvlib.sessions import Request, conversation, shared_tokens, stamped

TODAY = date(2026, 11, 20)
OWN = {record.model for record in own_records() if record.valid_to is None} | {"gemini-1.5-pro"}


def billable(name):
    """The rules under which the session of a model can be billed at all."""
    found = price(name, TODAY)
    return [
        rule
        for rule in rules_for(found)
        if not (rule.match == "object" and found.storage is None)
        and not (rule.write == "cache_write_1h" and found.rates.cache_write_1h is None)
    ]


CACHED = [name for name in prices() if name not in OWN and billable(name)]
WEEK = 7 * 24 * 3_600


def usd(bill):
    return pytest.approx(float(bill), abs=1e-12)


# ---------------------------------------------------------------- the rules are data


def test_every_rule_has_a_source_a_date_and_a_minimum_with_both():
    assert {rule.provider for rule in cache_rules()} == {"google", "anthropic", "openai", "deepseek"}
    for rule in cache_rules():
        assert rule.source.url.startswith("https://") and rule.as_of
        assert rule.minimums and all(least.as_of and least.source.url for least in rule.minimums)


@pytest.mark.parametrize(
    ("name", "match", "increment", "ttl", "write"),
    [
        ("gemini-implicit", "longest", 1, None, "input"),
        ("gemini-explicit", "object", 1, (3_600, 3_600), "input"),
        ("anthropic-5m", "marks", 1, (300, 300), "cache_write"),
        ("anthropic-1h", "marks", 1, (3_600, 3_600), "cache_write_1h"),
        ("openai-automatic", "longest", 128, (300, 3_600), "input"),
        ("openai-breakpoint", "marks", 1, (1_800, 1_800), "cache_write"),
        ("deepseek-prefix", "longest", 64, None, "input"),
        ("deepseek-units", "units", 1, None, "input"),
    ],
)
def test_the_rules(name, match, increment, ttl, write):
    rule = cache_rule(name)
    assert (rule.match, rule.increment, rule.ttl, rule.write) == (match, increment, ttl, write)


def test_what_no_provider_publishes_is_marked():
    assert "ttl" in cache_rule("gemini-implicit").unverified
    assert "increment" in cache_rule("deepseek-prefix").unverified
    assert cache_rule("openai-automatic").unverified == ()


def test_documented_discounts_are_those_of_the_prices():
    """The factors come from the rules' pages, the prices from the price lists."""
    checked = 0
    for rule in cache_rules():
        for kind, factors in (("read", rule.reads), ("write", rule.writes)):
            for factor in factors:
                model = factor.models.replace("[12]", "1") if factor.models != "*" else "claude-opus-5"
                model = "gpt-5.6-sol" if rule.provider == "openai" and factor.models == "*" else model
                day = date.fromisoformat(factor.as_of) if len(factor.as_of) == 10 else TODAY
                found = float(getattr(rule.terms(price(model, day)), kind))
                assert abs(found - float(factor.factor)) < 0.0053, (rule.name, model, kind)  # 0.07 / 0.27 = 0.259
                checked += 1
    assert checked >= 18


@pytest.mark.parametrize(
    ("rule", "model", "on", "least"),
    [
        ("anthropic-5m", "claude-fable-5", None, 512),
        ("anthropic-5m", "claude-sonnet-4-5", None, 1_024),
        ("anthropic-1h", "claude-haiku-4-5", None, 4_096),
        ("gemini-implicit", "gemini-2.5-pro", date(2026, 5, 7), 4_096),
        ("gemini-implicit", "gemini-2.5-pro", TODAY, 2_048),
        ("gemini-implicit", "gemini-2.5-flash", date(2026, 6, 1), 1_024),
        ("gemini-explicit", "gemini-1.5-pro", None, 32_769),
        ("openai-automatic", "gpt-4.1", None, 1_024),
    ],
)
def test_the_minimum_depends_on_the_model_and_the_day(rule, model, on, least):
    assert cache_rule(rule).minimum(model, on).tokens == least


def test_terms_say_what_one_model_gets():
    terms = cache_rule("gemini-explicit").terms(price("gemini-2.5-pro", TODAY), 300_000)
    assert terms.storage == Decimal("4.5") and terms.threshold == 200_000
    assert terms.read == Decimal("0.1") and terms.write == 1 and terms.ttl == (3_600, 3_600)
    assert "minimum" in cache_rule("anthropic-5m").terms(price("claude-opus-5-5", TODAY)).unverified


def test_a_rule_begins_on_a_day():
    found = price("gemini-2.5-pro", date(2025, 5, 7))
    with pytest.raises(ValueError, match="on must be 2025-05-08 or later, when gemini-implicit began; got 2025-05-07"):
        session_bill([], found, "gemini-implicit", ttl=60, on=date(2025, 5, 7))


def test_a_rule_of_another_provider_is_refused():
    with pytest.raises(ValueError, match=r"rule must be one of rules_for\('gpt-5'\); got 'anthropic-5m'"):
        session_bill([], price("gpt-5", TODAY), "anthropic-5m")
    with pytest.raises(ValueError, match=r"rule must be one of gemini-implicit, .*; got 'anthropic'"):
        cache_rule("anthropic")


# ---------------------------------------------------------------- bills


def package_usd(name, provider, line, request_tokens):
    kinds = {kind: sum(x.tokens for x in line.bill.lines if x.kind == kind) for kind in KINDS}
    usage = {
        "input_tokens": request_tokens,
        "cache_read_tokens": kinds["cached input tokens"],
        "cache_write_tokens": kinds["tokens written to the cache"] + kinds["tokens written to the cache for an hour"],
        "cache_write_1h_tokens": kinds["tokens written to the cache for an hour"],
        "output_tokens": kinds["output tokens"],
    }
    moment = datetime(TODAY.year, TODAY.month, TODAY.day, 12, tzinfo=UTC)
    used = {key: value for key, value in usage.items() if value}
    return calc_price(Usage(**used), name, provider_id=provider, genai_request_timestamp=moment).total_price


KINDS = (
    "cached input tokens",
    "tokens written to the cache",
    "tokens written to the cache for an hour",
    "output tokens",
)


def test_there_are_models_of_all_four_providers_to_compare():
    assert len(CACHED) >= 40
    assert {price(name, TODAY).provider for name in CACHED} == {"google", "anthropic", "openai", "deepseek"}


@pytest.mark.parametrize("name", CACHED)
def test_the_bill_of_a_session_equals_that_of_genai_prices_in_every_tier(name):
    found = price(name, TODAY)
    cold = warm = 0
    for document in (10_000, (found.threshold or 100_000) - 5_000, (found.threshold or 100_000) + 50_000):
        rows = conversation(document, 1_000, 700, 6, 60, mark="document")
        for rule in (None, *billable(name)):
            bill = session_bill(rows, found, rule, ttl=None if rule and rule.ttl else WEEK)
            sent = {f"request {number}": row.tokens for number, row in enumerate(rows, 1)}
            lines = [line for line in bill.lines if line.what != "keep the cache"]
            theirs = [package_usd(name, found.provider, x, sent.get(x.what, document)) for x in lines]
            rent = sum(line.bill.usd for line in bill.lines if line.what == "keep the cache")
            assert abs(bill.usd - rent - sum(theirs)) < Decimal("0.0001") / 100  # USD
            cold, warm = cold + (rule is None), warm + (bill.cached_tokens > 0)
    assert cold == 3 and warm >= 3


def test_sent_statelessly_a_conversation_grows_quadratically():
    """n questions resend d + (q + a) n (n - 1) / 2 and their own question: counted by hand, not by the session."""
    found = price("gpt-4.1", TODAY)
    for many in (1, 2, 10, 50):
        prompt = many * 1_000 + many * 30 + (30 + 70) * many * (many - 1) // 2
        bill = session_bill(conversation(1_000, 30, 70, many), found)
        assert bill.usd == Decimal(2) * prompt / 10**6 + Decimal(8) * 70 * many / 10**6


def test_anthropic_by_hand():
    """Write 10,100 at 1.25, then read what is there and write the new 300, each time; 500 output."""
    bill = session_bill(conversation(10_000, 100, 200, 3), price("claude-sonnet-4-5", TODAY), "anthropic-5m")
    tokens = [10_100 * Decimal("3.75"), 10_100 * Decimal("0.3") + 300 * Decimal("3.75")]
    tokens += [10_400 * Decimal("0.3") + 300 * Decimal("3.75")]
    assert [line.bill.usd * 10**6 - 200 * 15 for line in bill.lines] == tokens
    assert bill.written_tokens == 10_700 and bill.cached_tokens == 20_500


def test_the_hour_is_written_at_twice_the_price():
    rows = conversation(10_000, 100, 0, 1)
    assert session_bill(rows, price("claude-opus-5", TODAY), "anthropic-1h").usd == 10_100 * Decimal(10) / 10**6


def test_openai_counts_in_steps_of_128():
    rows = conversation(1_500, 10, 0, 2)
    bill = session_bill(rows, price("gpt-5", TODAY), "openai-automatic")
    assert [line.tokens("cached input") for line in bill.lines] == [0, 1_408]  # 11 x 128; 1,510 are shared
    assert bill.written_tokens == 0


def test_a_prefix_below_the_minimum_saves_nothing_and_one_at_it_does():
    found = price("gpt-5", TODAY)
    for shared, cached in ((1_023, 0), (1_024, 1_024), (1_151, 1_024), (1_152, 1_152)):
        rows = [Request(t, (("doc", shared), (("question", t), 500))) for t in (0, 1)]
        assert session_bill(rows, found, "openai-automatic").cached_tokens == cached
    found = price("claude-sonnet-4-5", TODAY)
    for shared, cached in ((1_023, 0), (1_024, 1_024)):
        rows = [Request(t, (("doc", shared), (("question", t), 500)), marks=(1,)) for t in (0, 1)]
        bill = session_bill(rows, found, "anthropic-5m")
        assert bill.cached_tokens == bill.written_tokens == cached
    rows = conversation(2_047, 1, 0, 2, mark="document")
    bill = session_bill(rows, price("gemini-2.5-pro", TODAY), "gemini-explicit")
    assert bill.cached_tokens == 0 and "2,047 tokens are below the minimum of 2,048" in bill.note
    assert bill.usd == session_bill(rows, price("gemini-2.5-pro", TODAY)).usd


@pytest.mark.parametrize(
    ("rule", "model", "life"),
    [
        ("anthropic-5m", "claude-sonnet-4-5", 300),
        ("anthropic-1h", "claude-sonnet-4-5", 3_600),
        ("openai-automatic", "gpt-5", 300),
        ("openai-breakpoint", "gpt-6.1-sol", 1_800),
    ],
)
def test_a_pause_longer_than_the_life_forgets_and_a_hit_renews(rule, model, life):
    found = price(model, TODAY)
    for pause, hits in ((life, 5), (life + 1, 0)):
        rows = conversation(20_000, 100, 100, 6, pause)
        bill = session_bill(rows, found, rule)
        assert sum(line.tokens("cached input") > 0 for line in bill.lines) == hits
    assert session_bill(rows, found, rule, ttl=math.inf).cached_tokens > 0


def test_a_change_at_the_front_costs_every_hit_and_the_premium_besides():
    rows = conversation(20_000, 100, 100, 6)
    found = price("claude-sonnet-4-5", TODAY)
    spoiled = session_bill(stamped(rows), found, "anthropic-5m")
    assert spoiled.cached_tokens == 0
    assert spoiled.usd > session_bill(stamped(rows), found).usd > session_bill(rows, found, "anthropic-5m").usd


def test_a_lookup_reaches_20_parts_back_from_a_mark():
    """A prompt that grew by 20 parts still hits the last mark, by 21 no more (unless the old place is marked too)."""
    found = price("claude-sonnet-4-5", TODAY)
    first = Request(0, (("doc", 5_000),))
    for grown, marks, cached in ((20, (), 5_000), (21, (), 0), (21, (1, 22), 5_000)):
        parts = (("doc", 5_000), *((("tool", n), 10) for n in range(grown)))
        bill = session_bill([first, Request(1, parts, marks=marks)], found, "anthropic-5m")
        assert bill.cached_tokens == cached
    with pytest.raises(ValueError, match="marks must be at most 4 a request under anthropic-5m"):
        session_bill([Request(0, parts, marks=(1, 2, 3, 4, 5))], found, "anthropic-5m")


def test_a_hit_renews_a_prefix_that_is_not_marked_again_and_none_is_found_beyond_the_mark():
    found = price("claude-sonnet-4-5", TODAY)
    rows = [
        Request(t, (("doc", 5_000), (("question", t), 2_000)), marks=(1,) if t == 0 else (2,)) for t in (0, 250, 500)
    ]
    bill = session_bill(rows, found, "anthropic-5m")
    assert [line.tokens("cached input") for line in bill.lines] == [0, 5_000, 5_000]
    rows = [Request(t, (("doc", 5_000), ("question", 2_000)), marks=(2 - t,)) for t in (0, 1)]
    bill = session_bill(rows, found, "anthropic-5m")
    assert [line.tokens("cached input") for line in bill.lines] == [0, 0]


def test_deepseek_units_follow_the_two_examples_of_its_guide():
    found = price("deepseek-v4-flash", TODAY)
    a, b, c, d = (("a", 700), ("b", 50), ("c", 60), ("d", 70))

    def hits(*prompts):
        rows = [Request(t, parts, 10, ("answer", t)) for t, parts in enumerate(prompts)]
        bill = session_bill(rows, found, "deepseek-units", ttl=WEEK)
        return [line.tokens("cached input") for line in bill.lines]

    assert hits((a, b), (a, b, c)) == [0, 750]  # A + B, then A + B + C
    assert hits((a, b), (a, c), (a, d)) == [0, 0, 700]  # the common A is stored when the second request shows it
    assert hits((a, b), (a, b, (("answer", 0), 10), c)) == [0, 760]  # the end of the answer is a unit as well


def test_an_explicit_cache_is_created_rented_and_read():
    rows = conversation(100_000, 200, 0, 3, 1_800, mark="document")
    bill = session_bill(rows, price("gemini-2.5-pro", TODAY), "gemini-explicit")
    assert [line.what for line in bill.lines] == [
        "create the cache", "keep the cache", "request 1", "request 2", "request 3",
    ]  # fmt: skip
    new = 200 + 400 + 600
    assert bill.usd * 10**6 == 100_000 * Decimal("1.25") + 100_000 * Decimal("4.5") + (
        300_000 * Decimal("0.125") + new * Decimal("1.25")
    )
    longer = session_bill(rows, price("gemini-2.5-pro", TODAY), "gemini-explicit", hold_hours=24)
    assert longer.usd - bill.usd == 23 * Decimal("0.45")


def test_after_the_cache_has_expired_the_full_price_returns():
    rows = conversation(100_000, 200, 0, 3, 1_800, mark="document")
    bill = session_bill(rows, price("gemini-2.5-pro", TODAY), "gemini-explicit", hold_hours=0.5)
    assert [line.tokens("cached input") for line in bill.lines][-3:] == [100_000, 100_000, 0]


def test_the_threshold_makes_the_whole_request_dearer_with_a_cache_too():
    found = price("gemini-2.5-pro", TODAY)
    for question, rate in ((100, Decimal("0.125")), (101, Decimal("0.25"))):
        rows = [Request(t, (("doc", 199_900), (("q", t), question))) for t in (0, 1)]
        last = session_bill(rows, found, "gemini-implicit", ttl=60).lines[-1]
        assert last.bill.usd * 10**6 == 199_900 * rate + question * rate * 10


def test_where_the_price_is_not_known_the_bill_is_a_range():
    rows = conversation(100_000, 100, 0, 2)
    bill = session_bill(rows, price("gemini-2.5-pro", date(2025, 10, 21)), "gemini-implicit", ttl=300)
    assert bill.high - bill.low == 100_100 * (Decimal("0.31") - Decimal("0.125")) / 10**6


@given(
    st.sampled_from(["anthropic-5m", "anthropic-1h", "openai-automatic", "deepseek-units", "gemini-implicit"]),
    st.lists(
        st.tuples(st.integers(0, 4_000), st.lists(st.integers(0, 3), min_size=1, max_size=5)), min_size=1, max_size=8
    ),
    st.integers(1, 3_000),
)
@settings(deadline=None, max_examples=150)
def test_no_bill_reads_what_no_earlier_request_sent(rule, shapes, scale):
    """And every token of every prompt is on exactly one line."""
    model = {"a": "claude-sonnet-4-5", "o": "gpt-5", "d": "deepseek-v4-flash", "g": "gemini-2.5-pro"}[rule[0]]
    rows, now = [], 0
    for pause, parts in shapes:
        now += pause
        rows.append(Request(now, tuple((name, scale * (name + 1)) for name in parts), 5, ("answer", now)))
    bill = session_bill(rows, price(model, TODAY), rule, ttl=600)
    for place, (row, line) in enumerate(zip(rows, bill.lines, strict=True)):
        recent = [old for old in rows[:place] if row.at - old.at <= max(600, now)]
        read = line.tokens("cached input")
        assert read <= max((shared_tokens(row, old) for old in recent), default=0)
        assert line.tokens("new input") + read + line.tokens("tokens written") == row.tokens
        assert read == 0 or read >= cache_rule(rule).minimum(model).tokens


def test_bad_input_is_named():
    found = price("deepseek-v4-flash", TODAY)
    rows = conversation(1_000, 10, 10, 2)
    with pytest.raises(ValueError, match="ttl must be given in seconds: DeepSeek, from V4 publishes no number"):
        session_bill(rows, found, "deepseek-units")
    with pytest.raises(ValueError, match="ttl must be seconds above 0; got 0"):
        session_bill(rows, found, "deepseek-units", ttl=0)
    with pytest.raises(ValueError, match="requests must be in order of arrival"):
        session_bill(rows[::-1], found)
    with pytest.raises(ValueError, match="hold_hours must be 0 or more; got -1"):
        session_bill(conversation(50_000, 9, 9, 2), price("gemini-2.5-pro", TODAY), "gemini-explicit", hold_hours=-1)
    no_rent = replace(price("gemini-2.5-pro", TODAY), storage=None)
    with pytest.raises(ValueError, match="price must have a recorded storage price"):
        session_bill(conversation(50_000, 9, 9, 2), no_rent, "gemini-explicit")
    assert session_bill([], found).usd == 0 == session_bill([], price("gemini-2.5-pro"), "gemini-explicit").usd
    assert PACKAGE.as_of <= TODAY  # the day these tests ask about is one the package knows


def test_the_repr_is_the_table():
    text = repr(session_bill(conversation(10_000, 100, 200, 2), price("claude-sonnet-4-5", TODAY), "anthropic-5m"))
    assert text.splitlines()[0] == "claude-sonnet-4-5, Anthropic, 5 minutes: 0.048030 USD"
    assert text.splitlines()[1].split() == ["seconds", "new", "cached", "written", "output", "USD"]
    assert text.splitlines()[3].split() == ["60", "request", "2", "0", "10,100", "300", "200", "0.007155"]


def test_time_may_be_a_fraction():
    rows = [Request(Fraction(300 * n, 7), (("doc", 2_000), (n, 10))) for n in range(8)]
    assert session_bill(rows, price("gpt-5", TODAY), "openai-automatic").cached_tokens == 7 * 1_920
