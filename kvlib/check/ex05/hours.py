"""Exercises 3, 4 and 7: what an hour costs: of power, of an owned card, of a cache that is kept."""

from __future__ import annotations

from kvlib.check.base import Case, Question, Slip
from kvlib.check.ex05 import counted

GB, MIB, HOURS = 10**9, 2**20, 8_760

# ---------------------------------------------------------------- exercise 3: power


def _power(label: str, watts: int, pue: float, cents: float) -> Case:
    """A machine at work, for exercise 3."""
    return Case(label, {"watts": watts, "pue": pue, "cents_per_kwh": cents})


POWER_PER_HOUR = Question(
    "power_per_hour",
    "USD",
    cases=(
        _power("an H100 with its server, US industry, October 2025", 1_730, 1.54, 8.65),
        _power("the same, PUE 1.1", 1_730, 1.1, 8.65),
        _power("a node of eight, April 2025", 13_840, 1.54, 8.21),
        _power("a GB200 with its share of the rack, January 2026", 2_100, 1.25, 9.29),
    ),
    truth=counted.power_per_hour,
    slips=(
        Slip(
            "PUE forgotten",
            lambda watts, pue, cents: watts / 1_000 * cents / 100,
            "the building draws {pue} times what its machines draw",
        ),
        Slip(
            "divided by the PUE",
            lambda watts, pue, cents: watts / 1_000 / pue * cents / 100,
            "you divided by the PUE; cooling comes on top of the machine's {watts:,} W",
        ),
        Slip(
            "PUE as the share on top",
            lambda watts, pue, cents: watts / 1_000 * (1 + pue) * cents / 100,
            "a PUE of {pue} is the whole building; the machine's own 1 is in it already",
        ),
        Slip(
            "cooling only",
            lambda watts, pue, cents: watts / 1_000 * (pue - 1) * cents / 100,
            "that is the part for cooling and losses; the machine's own {watts:,} W are missing",
        ),
        Slip(
            "cents for dollars",
            lambda watts, pue, cents: watts / 1_000 * pue * cents,
            "these are cents; a dollar has 100",
        ),
        Slip(
            "watts for kilowatts",
            lambda watts, pue, cents: watts * pue * cents / 100,
            "electricity is sold by the kWh, and {watts:,} W are a thousandth of that many kW",
        ),
        Slip(
            "a whole day",
            lambda watts, pue, cents: 24 * watts / 1_000 * pue * cents / 100,
            "that is a day, and asked is an hour",
        ),
    ),
)

# ---------------------------------------------------------------- exercise 4: an owned card


def _owner(label: str, yen: int, rate: float, server: int, network: int, years: int, residual: int) -> Case:
    """A purchase, for exercise 4."""
    paid = {"card_yen": yen, "yen_per_usd": rate, "server_usd": server, "network_usd": network}
    return Case(label, {**paid, "years": years, "residual_percent": residual})


OWNED_PER_HOUR = Question(
    "owned_per_hour",
    "USD per hour",
    cases=(
        _owner("the article's card alone, 4 years", 5_000_000, 151.16, 0, 0, 4, 0),
        _owner("with server and network, 4 years", 5_000_000, 151.16, 10_000, 3_000, 4, 0),
        _owner("sold for 10 % after 4 years", 5_000_000, 151.16, 10_000, 3_000, 4, 10),
        _owner("two days later, 6 years, sold for 20 %", 5_000_000, 152.46, 12_000, 5_000, 6, 20),
        _owner("a dearer card, 3 years", 6_300_000, 150.74, 30_250, 1_000, 3, 5),
    ),
    truth=counted.owned_per_hour,
    slips=(
        Slip(
            "yen and dollar inverted",
            lambda yen, rate, server, network, years, rest: (
                (yen * rate + server + network) * (1 - rest / 100) / years / HOURS
            ),
            "you multiplied by the rate; a dollar is {yen_per_usd} yen, so there are fewer dollars than yen",
        ),
        Slip(
            "yen taken for dollars",
            lambda yen, rate, server, network, years, rest: (yen + server + network) * (1 - rest / 100) / years / HOURS,
            "{card_yen:,} are yen; {yen_per_usd} of them are one dollar",
        ),
        Slip(
            "bare card",
            lambda yen, rate, server, network, years, rest: yen / rate * (1 - rest / 100) / years / HOURS,
            "that is the bare card; it does nothing without its server ({server_usd:,}) and network ({network_usd:,})",
        ),
        Slip(
            "bare card, and residual ignored",
            lambda yen, rate, server, network, years, rest: yen / rate / years / HOURS,
            "that is the bare card, and the sale at the end is missing too",
        ),
        Slip(
            "network forgotten",
            lambda yen, rate, server, network, years, rest: (yen / rate + server) * (1 - rest / 100) / years / HOURS,
            "the network is missing: {network_usd:,} for each card",
        ),
        Slip(
            "server forgotten",
            lambda yen, rate, server, network, years, rest: (yen / rate + network) * (1 - rest / 100) / years / HOURS,
            "the server is missing: {server_usd:,} for each card",
        ),
        Slip(
            "residual ignored",
            lambda yen, rate, server, network, years, rest: (yen / rate + server + network) / years / HOURS,
            "at the end {residual_percent} % of the purchase come back",
        ),
        Slip(
            "residual for what is lost",
            lambda yen, rate, server, network, years, rest: (
                (yen / rate + server + network) * rest / 100 / years / HOURS
            ),
            "that is what comes back, {residual_percent} %; the rest is what the hours have to pay",
        ),
        Slip(
            "residual of the card only",
            lambda yen, rate, server, network, years, rest: (
                (yen / rate * (1 - rest / 100) + server + network) / years / HOURS
            ),
            "the {residual_percent} % hold for the whole purchase, server and network included",
        ),
        Slip(
            "residual every year",
            lambda yen, rate, server, network, years, rest: (
                (yen / rate + server + network) * (1 - rest / 100) ** years / years / HOURS
            ),
            "you took {residual_percent} % off in each of {years} years; it is sold once, at the end",
        ),
        Slip(
            "one year",
            lambda yen, rate, server, network, years, rest: (yen / rate + server + network) * (1 - rest / 100) / HOURS,
            "you let the first year pay for everything; it is used for {years} years",
        ),
        Slip(
            "working hours",
            lambda yen, rate, server, network, years, rest: (
                (yen / rate + server + network) * (1 - rest / 100) / years / 2_080
            ),
            "a card works at night too: a year has 8,760 hours",
        ),
    ),
)

# ---------------------------------------------------------------- exercise 7: a cache that is kept


def _held(label: str, cache_gb: int, visible_mib: int, usd: float) -> Case:
    """A cache in a card's memory, for exercise 7."""
    return Case(label, {"cache_gb": cache_gb, "visible_mib": visible_mib, "usd_per_gpu_hour": usd})


HELD_PER_HOUR = Question(
    "held_per_hour",
    "USD per hour",
    cases=(
        _held("1M tokens of Llama 3.1 70B in bf16, H100", 328, 81_559, 1.70),
        _held("1M tokens of DeepSeek-V3 in bf16, H100", 70, 81_559, 1.70),
        _held("the same on H200", 70, 143_771, 3.50),
        _held("10 GB on a B200", 10, 183_359, 5.50),
    ),
    truth=counted.held_per_hour,
    slips=(
        Slip(
            "GB for GiB",
            lambda cache, mib, usd: cache / (mib / 1024) * usd,
            "{visible_mib:,} MiB / 1024 are GiB, and the cache is in GB: a GiB has 7 % more bytes",
        ),
        Slip(
            "MiB for MB",
            lambda cache, mib, usd: cache / (mib / 1000) * usd,
            "{visible_mib:,} MiB are not as many MB: a MiB has 1,048,576 bytes",
        ),
        Slip(
            "whole cards",
            lambda cache, mib, usd: -(-cache * GB // (mib * MIB)) * usd,
            "you rented whole cards; here the cache pays for its share of the memory",
        ),
        Slip(
            "the hour inverted",
            lambda cache, mib, usd: cache * GB / (mib * MIB) / usd,
            "you divided by the price of the hour",
        ),
        Slip(
            "share turned over",
            lambda cache, mib, usd: mib * MIB / (cache * GB) * usd,
            "you divided the card by the cache; wanted is the cache's share of the card",
        ),
        Slip(
            "price ignored",
            lambda cache, mib, usd: cache * GB / (mib * MIB),
            "that is the share of the card; an hour of the card costs {usd_per_gpu_hour} USD",
        ),
    ),
)
