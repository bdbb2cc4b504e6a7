"""What an API charges on a day: the offline table of the package genai-prices, and our records where it falls short.

A record of ours comes first. The package answers for the days from which its price was confirmed by somebody else
(`since` in data/prices.toml), because it has an answer for every day, also for those before a model existed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from difflib import get_close_matches
from functools import cache
from importlib import resources
from typing import Any

from kvlib.bills import Price, Rates
from kvlib.hardware import Source

# The last price change that genai-prices 0.2.3 had seen (later ones in it are announcements).
PACKAGE = Source("genai-prices 0.2.3", date(2026, 11, 9), "https://github.com/pydantic/genai-prices")
_PROVIDERS = ("anthropic", "deepseek", "google", "openai")  # the makers; resellers carry the same models
_NOON = time(12, tzinfo=UTC)


def price(model: str, on: date | datetime | None = None) -> Price:
    """The prices of `model` on the day `on`.

    Args:
        model: a name from `prices()`; dots, hyphens and case do not matter.
        on: the day; None is the day of the package's last change. A provider that has peak hours is asked at 12:00 UTC,
            which is off-peak, unless a datetime with a time zone says when.

    Raises:
        ValueError: if the model is unknown, or no record reaches back to the day.
    """
    day = on or PACKAGE.as_of
    if not isinstance(day, date):
        raise ValueError(f"on must be a date, such as date(2025, 10, 21); got {on!r}")
    moment = day if isinstance(day, datetime) else datetime.combine(day, _NOON)
    if moment.tzinfo is None:
        raise ValueError(f"on must be a date, or a datetime with a time zone; got {on!r}")
    name, day = _name(model), moment.astimezone(UTC).date()
    own = [record for record in _own() if record.model == name]
    for record in own:
        if record.valid_from and record.valid_from <= day <= (record.valid_to or date.max):
            return record
    since = None if any(record.retired for record in own) else _since().get(name, PACKAGE.as_of)
    if name in _package_models() and since and day >= since:
        return replace(_from_package(name, moment), storage=_storage(name, day))
    raise ValueError(f"on must be a day with a recorded price of {name}: {_known_days(name, own, since)}; got {day}")


def prices() -> tuple[str, ...]:
    """The names that `price` knows, in alphabetical order."""
    return tuple(sorted({record.model for record in _own()} | _package_models().keys()))


def own_records() -> tuple[Price, ...]:
    """The records of data/prices.toml: what the package lacks, or has wrong."""
    return _own()


def _name(model: str) -> str:
    """The name of a known model; a ValueError suggests others."""
    known = {_squeeze(name): name for name in prices()}
    asked = _squeeze(model) if isinstance(model, str) else ""
    if asked in known:
        return known[asked]
    near = [known[key] for key in get_close_matches(asked, known, n=3)]
    hint = f" (did you mean {' or '.join(near)}?)" if near else ""
    raise ValueError(f"model must be one of the {len(known)} names in prices(); got {model!r}{hint}")


def _known_days(name: str, own: list[Price], since: date | None) -> str:
    spans = [f"{record.valid_from} to {record.valid_to or 'now'}" for record in own]
    spans += [f"{since} and later"] if since and all(record.valid_to for record in own) else []
    return ", ".join(spans) + (" (then retired)" if since is None else "")


def _from_package(name: str, moment: datetime) -> Price:
    """The package's prices of a model at a moment."""
    from genai_prices import Usage, calc_price

    provider = _package_models()[name]
    found = calc_price(Usage(input_tokens=1), name, provider_id=provider, genai_request_timestamp=moment).model_price
    fields: dict[str, Any] = {
        "input": found.input_mtok,
        "output": found.output_mtok,
        "cached_input": found.cache_read_mtok,
        "cache_write": found.cache_write_mtok,
        "cache_write_1h": found.cache_write_1h_mtok,
    }
    starts = {tier.start for value in fields.values() for tier in getattr(value, "tiers", ())}
    if len(starts) > 1:
        raise ValueError(f"model must have at most one threshold; {name} has {sorted(starts)}")
    base = {field: getattr(value, "base", value) for field, value in fields.items()}
    high = {field: value.tiers[0].price if hasattr(value, "tiers") else value for field, value in fields.items()}
    return Price(
        provider,
        name,
        _rates(base),
        PACKAGE,
        str(PACKAGE.as_of),
        threshold=starts.pop() if starts else None,
        long=_rates(high) if high != base else None,
    )


def _rates(fields: Mapping[str, Any]) -> Rates:
    return Rates(**fields)


@cache
def _package_models() -> dict[str, str]:
    """Model -> provider, of the package's models of the four makers that have a price for text in and for text out."""
    try:
        from genai_prices import data_snapshot
    except ImportError:
        raise ImportError("prices come from the package genai-prices: pip install -r requirements.txt") from None
    known = data_snapshot.get_snapshot().providers
    now = datetime.combine(PACKAGE.as_of, _NOON)
    listed = {provider.id: provider.models for provider in known if provider.id in _PROVIDERS}
    return {
        model.id: maker
        for maker in reversed(_PROVIDERS)
        for model in listed[maker]
        if model.is_match(model.id)  # some ids are only the beginning of a name
        and model.get_prices(now).input_mtok is not None
        and model.get_prices(now).output_mtok is not None
    }


@cache
def _own() -> tuple[Price, ...]:
    data = _data()
    sources = {key: Source(**source) for key, source in data["sources"].items()}
    return tuple(_record(dict(row), sources) for row in data["prices"])


def _record(row: dict[str, Any], sources: dict[str, Source]) -> Price:
    rates = {field: row.pop(field) for field in _RATES if field in row}
    long = row.pop("long", None)
    lists = {field: tuple(row.pop(field, ())) for field in ("unverified", "month_only")}
    fixed: dict[str, Any] = {**lists, "source": sources[row.pop("source")], "as_of": str(row.pop("as_of"))}
    return Price(**row, **fixed, rates=_own_rates(rates), long=_own_rates(long) if long else None)


_RATES = ("input", "output", "cached_input", "cache_write", "cache_write_1h", "cached_input_range")


def _own_rates(fields: dict[str, Any]) -> Rates:
    unsure = fields.pop("cached_input_range", None)
    return Rates(
        **{field: Decimal(value) for field, value in fields.items()},
        cached_input_range=(Decimal(unsure[0]), Decimal(unsure[1])) if unsure else None,
    )


def _storage(name: str, day: date) -> Decimal | None:
    for row in _data()["storage"]:
        if row["model"] == name and row["valid_from"] <= day <= row.get("valid_to", date.max):
            return Decimal(row["storage"])
    return None


@cache
def _since() -> dict[str, date]:
    return {row["model"]: row["since"] for row in _data()["since"]}


@cache
def _data() -> dict[str, Any]:
    text = (resources.files("kvlib") / "data" / "prices.toml").read_text(encoding="utf-8")
    return tomllib.loads(text, parse_float=Decimal)


def _squeeze(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())
