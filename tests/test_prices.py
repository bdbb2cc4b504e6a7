import re
import subprocess
import sys
import tomllib
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import genai_prices
import pytest
from genai_prices import Usage, calc_price
from hypothesis import given, settings
from hypothesis import strategies as st

from kvlib.prices import PACKAGE, own_records, price, prices

ARTICLE_DAY = date(2025, 10, 21)
TODAY = date(2026, 11, 20)
TEXT = (Path(__file__).parent / "data/price_rows.toml").read_text(encoding="utf-8")
ROWS = tomllib.loads(TEXT, parse_float=Decimal)["rows"]
KINDS = ("input", "output", "cached_input", "cache_write", "cache_write_1h")
FROM_PACKAGE = [name for name in prices() if all(record.model != name or record.valid_to for record in own_records())]
FROM_PACKAGE = [name for name in FROM_PACKAGE if name != "gemini-1.5-pro"]


def package_usd(name, provider, when=TODAY, **tokens):
    """USD by the package itself."""
    moment = datetime(when.year, when.month, when.day, 12, tzinfo=UTC)
    return calc_price(Usage(**tokens), name, provider_id=provider, genai_request_timestamp=moment).total_price


# ---------------------------------------------------------------- the package against our own reading


def test_at_least_25_rows_are_compared():
    assert len(ROWS) >= 25
    assert len({row["model"] for row in ROWS}) == len(ROWS)
    assert all(row["source"] and row["as_of"] for row in ROWS)
    assert sum("not independent" not in row["source"] for row in ROWS) >= 20


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["model"])
def test_a_row_equals_the_package(row):
    found = price(row["model"], TODAY)
    assert found.provider == row["provider"]
    for kind in KINDS[:3]:
        assert getattr(found.rates, kind) == Decimal(row[kind])
    for kind in set(KINDS[3:]) & set(row):
        assert getattr(found.rates, kind) == Decimal(row[kind])
    if "threshold" in row:
        assert found.threshold == row["threshold"]
        for kind, usd in row["long"].items():
            assert getattr(found.long, kind) == Decimal(usd)
            assert getattr(found.at(row["threshold"] + 1), kind) == Decimal(usd)
            assert getattr(found.at(row["threshold"]), kind) == Decimal(row[kind])


@given(
    st.sampled_from(FROM_PACKAGE),
    st.dates(PACKAGE.as_of, date(2027, 3, 1)),
    st.sampled_from([0, 1, 99_999, 100_001, 128_001, 200_000, 200_001, 272_001, 1_000_000]),
    st.integers(0, 100_000),
    st.lists(st.integers(0, 100), min_size=3, max_size=3),
)
@settings(deadline=None, max_examples=400)
def test_a_bill_equals_that_of_the_package(name, day, prompt, output, parts):
    found = price(name, day)
    cached, written, written_1h = (prompt * part // 300 for part in parts)
    rates = found.at(prompt)
    tokens = {"input_tokens": prompt, "output_tokens": output, "cache_read_tokens": cached}
    if rates.cache_write is not None:
        tokens["cache_write_tokens"] = written + (written_1h if rates.cache_write_1h is not None else 0)
    if rates.cache_write_1h is not None:
        tokens["cache_write_1h_tokens"] = written_1h
    bill = found.bill(
        prompt, output, cached_tokens=cached, written_tokens=written,
        written_1h_tokens=written_1h if rates.cache_write_1h is not None else 0,
    )  # fmt: skip
    assert bill.usd == package_usd(name, found.provider, day, **tokens)
    assert bill.low == bill.usd == bill.high


# What the package lacks or has wrong. When one of these fails, it was mended there: the record of ours can go.
WRONG = [
    ("deepseek-chat", "deepseek", ARTICLE_DAY, "output", Decimal("1.1")),
    ("deepseek-reasoner", "deepseek", ARTICLE_DAY, "output", Decimal("2.19")),
    ("gemini-2.5-pro", "google", date(2025, 6, 15), "cached_input", Decimal("0.125")),
    ("gemini-2.5-flash", "google", date(2025, 6, 15), "cached_input", Decimal("0.03")),
    ("gemini-1.5-pro", "google", date(2025, 1, 15), "cached_input", Decimal("1.25")),
    ("gemini-1.5-pro", "google", date(2024, 6, 15), "input", Decimal("1.25")),
    ("o3", "openai", date(2025, 5, 1), "cached_input", Decimal("0.5")),
]


@pytest.mark.parametrize(("name", "provider", "day", "kind", "theirs"), WRONG)
def test_our_records_are_still_needed(name, provider, day, kind, theirs):
    million = {"input_tokens": 10**5}
    tokens = {"output": {"output_tokens": 10**5}, "cached_input": {**million, "cache_read_tokens": 10**5}}
    assert package_usd(name, provider, day, **tokens.get(kind, million)) * 10 == theirs
    assert getattr(price(name, day).rates, kind) != theirs


def test_the_package_still_lacks_the_long_tier_of_sonnet_4():
    flat = package_usd("claude-sonnet-4-0", "anthropic", ARTICLE_DAY, input_tokens=10**6)
    assert flat == 3
    assert price("claude-sonnet-4-0", ARTICLE_DAY).bill(10**6).usd == 6


# ---------------------------------------------------------------- published prices, and rules


@pytest.mark.parametrize(
    ("name", "tokens", "usd"),
    [
        ("gemini-2.5-pro", 200_000, "0.25"),
        ("gemini-2.5-pro", 200_001, "0.5000025"),
        ("gemini-2.5-pro", 1_000_000, "2.5"),
        ("claude-sonnet-4.5", 1_000_000, "6"),
        ("gpt-4.1", 1_000_000, "2"),
        ("deepseek-chat", 128_000, "0.03584"),
    ],
)
def test_a_prompt_on_the_day_of_the_article(name, tokens, usd):
    assert price(name, ARTICLE_DAY).bill(tokens).usd == Decimal(usd)


def test_two_million_tokens_to_gemini_1_5_pro():
    assert price("gemini-1.5-pro", date(2025, 9, 1)).bill(2_000_000).usd == 5
    assert price("gemini-1.5-pro", date(2024, 9, 30)).bill(2_000_000).usd == 14


def test_one_token_more_doubles_the_whole_bill():
    pro = price("gemini-2.5-pro", ARTICLE_DAY)
    assert float(pro.bill(200_001).usd / pro.bill(200_000).usd) == pytest.approx(2.0, abs=1e-4)
    assert pro.bill(200_001, 1_000).lines[-1].usd_per_million == 15
    assert pro.bill(200_000, 1_000).lines[-1].usd_per_million == 10


def test_a_cached_part_counts_towards_the_threshold():
    pro = price("gemini-2.5-pro", TODAY)
    bill = pro.bill(200_001, cached_tokens=200_000)
    assert bill.usd == (Decimal("2.5") + 200_000 * Decimal("0.25")) / 10**6


def test_a_price_that_is_not_certain_gives_a_range():
    pro = price("gemini-2.5-pro", ARTICLE_DAY)
    assert pro.unverified == ("cached_input",)
    bill = pro.bill(10**6, cached_tokens=10**6)
    assert (bill.low, bill.high) == (Decimal("0.25"), Decimal("0.625"))
    assert "0.25" in repr(bill) and "0.625" in repr(bill)
    for day, cached in ((date(2025, 7, 31), "0.31"), (date(2025, 11, 7), "0.125")):
        sure = price("gemini-2.5-pro", day).bill(100_000, cached_tokens=100_000)
        assert sure.low == sure.high == Decimal(cached) / 10


def test_keeping_a_million_tokens_for_an_hour_costs_more_than_sending_them_again():
    pro = price("gemini-2.5-pro", TODAY)
    kept = pro.bill(0, kept_tokens=10**6, kept_hours=1).usd
    assert kept == Decimal("4.5")
    assert kept > pro.bill(10**6).usd == Decimal("2.5")
    assert pro.bill(0, kept_tokens=10**6, kept_hours=0.5).usd == Decimal("2.25")


@pytest.mark.parametrize(
    ("name", "day", "usd"),
    [
        ("gemini-1.5-pro", date(2025, 1, 1), "4.5"),
        ("gemini-2.5-pro", ARTICLE_DAY, "4.5"),
        ("gemini-2.5-flash", TODAY, "1"),
        ("gemini-3-flash-preview", TODAY, "1"),
        ("gemini-3.6-flash", date(2026, 7, 25), "1"),
        ("gemini-3.8-flash", TODAY, "0.5"),
        ("gemini-3.8-flash", date(2027, 1, 1), None),
        ("gpt-5", TODAY, None),
    ],
)
def test_storage_is_ours_because_the_package_has_none(name, day, usd):
    assert price(name, day).storage == (None if usd is None else Decimal(usd))


def test_one_number_for_a_comparison():
    gpt = price("gpt-4.1", ARTICLE_DAY)  # 2, 0.5 cached, 8
    assert gpt.per_million(3_000_000, 1_000_000) == (6 + 8) / Decimal(4)
    assert gpt.per_million(3_000_000, 1_000_000, counted="output") == 14
    assert gpt.per_million(2_000_000, 0, cached_tokens=1_000_000, counted="input") == Decimal("1.25")


def test_off_peak_is_the_price_of_a_date_and_a_time_gives_the_peak():
    off = price("deepseek-v4-flash", TODAY)
    peak = price("deepseek-v4-flash", datetime(2026, 11, 20, 2, tzinfo=UTC))
    assert peak.rates.input == 2 * off.rates.input == Decimal("0.30")
    tokyo = timezone(timedelta(hours=9))
    assert price("deepseek-v4-flash", datetime(2026, 11, 20, 11, tzinfo=tokyo)).rates == peak.rates
    early = datetime(2025, 11, 7, 5, tzinfo=tokyo)  # still the 6th in UTC
    assert price("gemini-2.5-pro", early) == price("gemini-2.5-pro", date(2025, 11, 6))


@given(st.sampled_from(FROM_PACKAGE), st.integers(0, 10**6), st.integers(0, 10**5), st.integers(1, 1_000))
@settings(deadline=None)
def test_more_tokens_never_cost_less(name, prompt, output, more):
    found = price(name)
    assert found.bill(prompt + more, output).usd >= found.bill(prompt, output).usd
    assert found.bill(prompt, output + more).usd >= found.bill(prompt, output).usd


# ---------------------------------------------------------------- the records, and what is refused


def test_the_records_of_a_model_do_not_overlap():
    for name in {record.model for record in own_records()}:
        spans = sorted((r.valid_from, r.valid_to or date.max) for r in own_records() if r.model == name)
        assert all(first[1] < second[0] for first, second in pairwise(spans))
        assert all(start <= end for start, end in spans)


def test_names_differ_by_more_than_dots_and_hyphens():
    squeezed = [re.sub(r"[^a-z0-9]", "", name.casefold()) for name in prices()]
    assert len(set(squeezed)) == len(squeezed) > 100
    assert price("Claude Opus 5.5").model == "claude-opus-5-5"


def test_every_model_of_the_package_can_be_asked():
    for name in FROM_PACKAGE:
        found = price(name)
        assert calc_price(Usage(input_tokens=1), name, provider_id=found.provider).model.id == name
        assert found.rates.input is not None and found.rates.output is not None and found.source == PACKAGE


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: price("gpt-7"), "model must be one of the .* names in prices.*got 'gpt-7' .did you mean"),
        (lambda: price(None), "model must be one of"),
        (lambda: price("gpt-4o", date(2023, 1, 1)), "gpt-4o: 2024-10-01 and later; got 2023-01-01"),
        (lambda: price("gemini-1.5-pro", ARTICLE_DAY), "2025-09-30 .then retired.; got 2025-10-21"),
        (lambda: price("gemini-1.5-pro"), "then retired"),
        (lambda: price("claude-fable-5-1", ARTICLE_DAY), "2026-11-09 and later; got 2025-10-21"),
        (lambda: price("deepseek-chat", date(2024, 1, 1)), "2025-02-08 to 2025-09-04.*2025-09-29 to now"),
        (lambda: price("gpt-5", "2026-01-01"), "on must be a date"),
        (lambda: price("gpt-5", datetime(2026, 1, 1)), "on must be a date, or a datetime with a time zone"),
        (lambda: price("gpt-5").bill(-1), "input_tokens must be a whole number, 0 or more; got -1"),
        (lambda: price("gpt-5").bill(1.5), "input_tokens must be a whole number"),
        (lambda: price("gpt-5").bill("9"), "input_tokens must be a whole number"),
        (lambda: price("gpt-5").bill(9, -1), "output_tokens must be a whole number"),
        (lambda: price("gpt-5").bill(9, cached_tokens=10), "must be at most input_tokens .9.; got 10"),
        (lambda: price("gpt-5").bill(9, cached_tokens=5, written_tokens=5), "at most input_tokens .9.; got 10"),
        (lambda: price("gpt-5").bill(9, kept_tokens=9, kept_hours=1), "gpt-5 has no recorded storage price"),
        (lambda: price("gemini-2.5-pro").bill(9, kept_tokens=9, kept_hours=-1), "kept_hours must be"),
        (lambda: price("gpt-5").per_million(1, 1, counted="cached"), "counted must be all, input or output"),
        (lambda: price("gpt-5").per_million(1, 0, counted="output"), "at least one such token"),
        (lambda: price("gpt-5").at(-1), "input_tokens must be"),
    ],
)
def test_bad_questions_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_date_of_the_package_belongs_to_its_version():
    assert PACKAGE.title == f"genai-prices {genai_prices.__version__}", "read when its last price change was"


def test_no_price_needs_the_network():
    code = (
        "import socket\n"
        "def refuse(*_, **__): raise OSError('network')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from kvlib.prices import price\n"
        "assert price('gpt-4.1').bill(10**6).usd == 2"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
