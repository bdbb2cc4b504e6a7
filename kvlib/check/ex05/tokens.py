"""Exercises 2, 5 and 6: margin and markup, the cost of a million tokens, and a bill."""

from __future__ import annotations

from kvlib.check.base import Case, Question, Slip
from kvlib.check.ex05 import counted

# ---------------------------------------------------------------- exercise 2: margin

MARGIN_PERCENT = Question(
    "margin_percent",
    "%",
    cases=(
        Case("the published day", {"revenue": 562_027, "cost": 87_072}),
        Case("the same tokens at the price of V3", {"revenue": 280_600, "cost": 87_072}),
        Case("the same at the price of V3.2-Exp", {"revenue": 154_600, "cost": 87_072}),
        Case("sold for twice the cost", {"revenue": 500, "cost": 250}),
    ),
    truth=counted.margin_percent,
    slips=(
        Slip(
            "markup for margin",
            lambda revenue, cost: (revenue - cost) / cost * 100,
            "that is the markup, profit for 100 USD of cost; the margin is profit for 100 USD of revenue",
        ),
        Slip(
            "revenue over cost",
            lambda revenue, cost: revenue / cost * 100,
            "that is revenue for 100 USD of cost, and the cost is still in it",
        ),
        Slip(
            "cost for profit",
            lambda revenue, cost: cost / revenue * 100,
            "that is the share of the cost; the margin is what is left",
        ),
        Slip(
            "a share for percent",
            lambda revenue, cost: (revenue - cost) / revenue,
            "right as a share of 1; asked is percent",
        ),
        Slip(
            "dollars for percent",
            lambda revenue, cost: revenue - cost,
            "that is the profit in USD; asked is its share of the revenue",
        ),
    ),
)

# ---------------------------------------------------------------- exercise 5: a million tokens


def _machine(label: str, usd: float, gpus: int, speed: float, percent: int) -> Case:
    """A machine and how much of the time it works, for exercise 5."""
    given = {"usd_per_gpu_hour": usd, "gpus": gpus, "tokens_per_second": speed}
    return Case(label, {**given, "utilisation_percent": percent})


USD_PER_MILLION = Question(
    "usd_per_million",
    "USD per million",
    cases=(
        _machine("Llama 2 70B on 8 H100, MLPerf, always busy", 1.70, 8, 21_605.8, 100),
        _machine("the same, busy 40 % of the time", 1.70, 8, 21_605.8, 40),
        _machine("DeepSeek-V3 on a node of 8 H100, output, 80 %", 2.00, 8, 22_300, 80),
        _machine("one H100 for one user, 5 %", 2.65, 1, 63, 5),
    ),
    truth=counted.usd_per_million,
    slips=(
        Slip(
            "utilisation forgotten",
            lambda usd, gpus, speed, percent: usd * gpus / (speed * 3_600) * 1e6,
            "you let the machine write all the time; it works {utilisation_percent} % of the hours that are paid",
        ),
        Slip(
            "utilisation multiplied",
            lambda usd, gpus, speed, percent: usd * gpus / (speed * 3_600) * 1e6 * percent / 100,
            "you multiplied by the utilisation; fewer tokens share the same hours, so each gets dearer",
        ),
        Slip(
            "percent for a share",
            lambda usd, gpus, speed, percent: usd * gpus / (speed * 3_600 * percent) * 1e6,
            "{utilisation_percent} % are {utilisation_percent} hundredths",
        ),
        Slip(
            "one GPU paid",
            lambda usd, gpus, speed, percent: usd / (speed * 3_600 * percent / 100) * 1e6,
            "the speed is that of all {gpus} GPUs together, and each of them is paid",
        ),
        Slip(
            "an hour of one second",
            lambda usd, gpus, speed, percent: usd * gpus / (speed * percent / 100) * 1e6,
            "the price is per hour and the speed per second",
        ),
        Slip(
            "an hour of one minute",
            lambda usd, gpus, speed, percent: usd * gpus / (speed * 60 * percent / 100) * 1e6,
            "an hour has 3,600 seconds",
        ),
        Slip(
            "one token",
            lambda usd, gpus, speed, percent: usd * gpus / (speed * 3_600 * percent / 100),
            "that is one token",
        ),
        Slip(
            "tokens per dollar",
            lambda usd, gpus, speed, percent: speed * 3_600 * percent / 100 / (usd * gpus) / 1e6,
            "these are millions of tokens per USD, the other way round",
        ),
    ),
)

# ---------------------------------------------------------------- exercise 6: a bill


def _request(label: str, sent: int, cached: int, written: int, prices: tuple[float, float, float]) -> Case:
    """A request and a price list (input, cached, output), for exercise 6."""
    tokens = {"input_tokens": sent, "cached_tokens": cached, "output_tokens": written}
    return Case(label, {**tokens, "usd_input": prices[0], "usd_cached": prices[1], "usd_output": prices[2]})


R1, GEMINI, SONNET = (0.55, 0.14, 2.19), (1.25, 0.31, 10.0), (3.0, 0.30, 15.0)

BILL = Question(
    "bill",
    "USD",
    cases=(
        _request("Claude Sonnet 4.5, 2025-10-21, nothing cached", 30_000, 0, 800, SONNET),
        _request("Gemini 2.5 Pro, 2025-07, most of it cached", 150_000, 140_000, 2_000, GEMINI),
        _request("the whole published day at the price of R1", 608 * 10**9, 342 * 10**9, 168 * 10**9, R1),
        _request("Claude Sonnet 4.5, all of it cached", 100_000, 100_000, 500, SONNET),
    ),
    truth=counted.bill,
    slips=(
        Slip(
            "cached tokens at full price",
            lambda sent, cached, written, new, hit, out: (sent * new + written * out) / 1e6,
            "{cached_tokens:,} tokens came out of the cache, at {usd_cached} instead of {usd_input}",
        ),
        Slip(
            "cached tokens twice",
            lambda sent, cached, written, new, hit, out: (sent * new + cached * hit + written * out) / 1e6,
            "the {cached_tokens:,} cached tokens are a part of the input, and you billed them as new ones too",
        ),
        Slip(
            "cached tokens for nothing",
            lambda sent, cached, written, new, hit, out: ((sent - cached) * new + written * out) / 1e6,
            "a cache is a discount, not a gift: {cached_tokens:,} tokens at {usd_cached}",
        ),
        Slip(
            "everything cached",
            lambda sent, cached, written, new, hit, out: (sent * hit + written * out) / 1e6,
            "only {cached_tokens:,} of {input_tokens:,} tokens came out of the cache",
        ),
        Slip(
            "input billed as output",
            lambda sent, cached, written, new, hit, out: (sent - cached + written) * out / 1e6 + cached * hit / 1e6,
            "you billed the input at the price of the output",
        ),
        Slip(
            "all tokens at the price of output",
            lambda sent, cached, written, new, hit, out: (sent + written) * out / 1e6,
            "you billed every token at the price of the output",
        ),
        Slip(
            "prefill free",
            lambda sent, cached, written, new, hit, out: written * out / 1e6,
            "reading is not free: {input_tokens:,} input tokens are missing",
        ),
        Slip(
            "output forgotten",
            lambda sent, cached, written, new, hit, out: ((sent - cached) * new + cached * hit) / 1e6,
            "the {output_tokens:,} tokens of the answer are missing",
        ),
        Slip(
            "prices swapped",
            lambda sent, cached, written, new, hit, out: ((sent - cached) * hit + cached * new + written * out) / 1e6,
            "you swapped the prices of new and of cached tokens",
        ),
        Slip(
            "price per token",
            lambda sent, cached, written, new, hit, out: (sent - cached) * new + cached * hit + written * out,
            "the prices are per million tokens",
        ),
        Slip(
            "price per thousand",
            lambda sent, cached, written, new, hit, out: ((sent - cached) * new + cached * hit + written * out) / 1e3,
            "the prices are per million tokens, not per thousand",
        ),
    ),
)
