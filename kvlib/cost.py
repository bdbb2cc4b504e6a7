"""What a token costs, and where owning, renting and calling an API cost the same.

    USD per million tokens = USD per paid hour x 1,000,000 / (tokens per second x 3,600 x utilisation)

Every argument takes a number or a range (`kvlib.ranges`); every result is an Estimate with its range and its tornado.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from kvlib.owning import HOURS_PER_YEAR, PER_HOUR, Api, Ownership, Rent
from kvlib.ranges import POSITIVE, SHARE, USED, Amount, Estimate, amount, combine
from kvlib.units import whole

MILLION, SECONDS = 10**6, 3_600
PER_MILLION = "USD per million tokens"


@dataclass(frozen=True)
class CostPerMillion:
    """USD per million tokens of each kind; None where no speed was given."""

    input: Estimate | None
    cached_input: Estimate | None
    output: Estimate | None

    def request(self, input_tokens: int, output_tokens: int = 0, cached_tokens: int = 0) -> Estimate:
        """USD of one request; `cached_tokens` of the `input_tokens` are taken back from a cache.

        Raises:
            ValueError: if a count is no whole number, more is cached than sent, or a kind has no price here.
        """
        counts = _counts(input_tokens, cached_tokens, output_tokens)
        prices = []
        for kind, count in counts.items():
            price: Estimate | None = getattr(self, kind)
            if price is None and count:
                raise ValueError(f"{kind} tokens have no price here: give cost_per_million their speed; got {count:,}")
            prices.append(price or Estimate({}, lambda _: 0.0))
        return combine(
            lambda *each: math.fsum(usd * count / MILLION for usd, count in zip(each, counts.values(), strict=True)),
            *prices,
            unit="USD",
        )


def cost_per_million(
    hour: Ownership | Rent | Amount,
    *,
    utilisation: Amount,
    input_per_second: Amount | None = None,
    output_per_second: Amount | None = None,
    cached_per_second: Amount | None = None,
    keeping_usd: Amount | None = None,
    gpus: int = 1,
) -> CostPerMillion:
    """USD per million input, cached input and output tokens of a machine of `gpus` GPUs, each priced by its own speed.

    Args:
        hour: an Ownership, a Rent, or USD per GPU-hour.
        utilisation: share of the paid hours in which the machine works at these speeds, above 0, at most 1.
        input_per_second: new prompt tokens per second, of all `gpus` together, while it reads.
        output_per_second: tokens per second of all sequences together, while it writes.
        cached_per_second: prompt tokens per second that are taken back from a cache instead of read again.
        keeping_usd: what a million cached tokens cost per use for having been kept, see `keep_usd_per_hour`.
        gpus: GPUs of the machine.

    Raises:
        ValueError: if a value is out of bounds, or nothing is given to be priced.
    """
    count = whole("gpus", gpus, 1)
    used = amount("utilisation", utilisation, USED)
    if isinstance(hour, Ownership):  # power is drawn by the hours of use
        per_hour = combine(lambda fixed, variable, share: fixed + variable * share, hour.fixed, hour.variable, used)
    else:
        per_hour = hour.hour if isinstance(hour, Rent) else amount("hour", hour, label="price of a GPU-hour")

    def price(name: str, speed: Amount | None) -> Estimate | None:
        if speed is None:
            return None
        rate = amount(name, speed, POSITIVE, label=name.replace("_", " "))
        return combine(lambda usd, u, n: _per_million(usd * count, n, u), per_hour, used, rate, unit=PER_MILLION)

    cached = price("cached_per_second", cached_per_second)
    if keeping_usd is not None:
        kept = amount("keeping_usd", keeping_usd, label="keeping the cache")
        cached = combine(lambda *parts: math.fsum(parts), *([cached] if cached else []), kept, unit=PER_MILLION)
    result = CostPerMillion(
        price("input_per_second", input_per_second), cached, price("output_per_second", output_per_second)
    )
    if result == CostPerMillion(None, None, None):
        raise ValueError("give at least one of input_per_second, output_per_second, cached_per_second, keeping_usd")
    return result


def _per_million(usd_per_hour: float, tokens_per_second: float, utilisation: float) -> float:
    return usd_per_hour * MILLION / (tokens_per_second * SECONDS * utilisation)


def keep_usd_per_hour(n_bytes: Amount, usd_per_gpu_hour: Amount, gpu_bytes: Amount) -> Estimate:
    """USD per hour of keeping `n_bytes` in a GPU's memory: its share of the `gpu_bytes` that the hour pays for.

    The other way round it says how many bytes a storage price can pay for. A ValueError names what is out of bounds.
    """
    return combine(
        lambda held, usd, all_bytes: held / all_bytes * usd,
        amount("n_bytes", n_bytes),
        amount("usd_per_gpu_hour", usd_per_gpu_hour, label="price of a GPU-hour"),
        amount("gpu_bytes", gpu_bytes, POSITIVE),
        unit="USD per hour",
    )


def joules_per_token(watts: Amount, tokens_per_second: Amount) -> Estimate:
    """Joules of one token: watts are joules per second. A ValueError names a speed of 0 or a negative power."""
    parts = amount("watts", watts), amount("tokens_per_second", tokens_per_second, POSITIVE)
    return combine(lambda power, speed: power / speed, *parts, unit="J per token")


def markup(revenue_usd: float, cost_usd: float) -> float:
    """Profit as a share of the cost: 5.45 is "545 %". It has no upper limit."""
    _check_money(revenue_usd, cost_usd)
    return (revenue_usd - cost_usd) / cost_usd


def margin(revenue_usd: float, cost_usd: float) -> float:
    """Profit as a share of the revenue: never above 1. A markup of 545 % is a margin of 84.5 %."""
    _check_money(revenue_usd, cost_usd)
    return (revenue_usd - cost_usd) / revenue_usd


def _check_money(revenue_usd: float, cost_usd: float) -> None:
    for name, value in (("revenue_usd", revenue_usd), ("cost_usd", cost_usd)):
        if amount(name, value, POSITIVE).inputs:
            raise ValueError(f"{name} must be one number; got {value!r}")


@dataclass(frozen=True, repr=False)
class BreakEven:
    """Where two options cost the same. Above it `first` is cheaper; "never" (infinity) if it is at no use.

    Attributes:
        utilisation: share of all hours that must be hours of use. Above 1 there are not enough hours in the day.
        hours: the same as hours of use within `years`.
        tokens_per_day: the same as tokens, None without a throughput.
        chance: share of the draws in which `first` can be the cheaper one, utilisation at most 1.
    """

    first: str
    second: str
    utilisation: Estimate
    hours: Estimate
    tokens_per_day: Estimate | None

    @property
    def chance(self) -> float:
        """Share of the draws with a break-even at a utilisation of 1 or less."""
        drawn = self.utilisation.draws()
        return sum(value <= 1 for value in drawn) / len(drawn)

    def __repr__(self) -> str:
        lines = [f"{self.first} is cheaper than {self.second} above", f"a utilisation of {self.utilisation}"]
        lines += [f"{self.hours}"] + ([f"{self.tokens_per_day}"] if self.tokens_per_day else [])
        return "\n  ".join(lines)


def break_even(
    first: Ownership | Rent | Api,
    second: Ownership | Rent | Api,
    *,
    tokens_per_second: Amount | None = None,
    gpus: int = 1,
    years: Amount | None = None,
) -> BreakEven:
    """The utilisation from which `first` is cheaper than `second`: (fixed1 - fixed2) / (variable2 - variable1).

    Put the option first that costs more in an idle hour: owning before renting, renting before an API.

    Args:
        first: an Ownership, Rent or Api.
        second: another one.
        tokens_per_second: of all `gpus` together, while busy. Needed if one side is an Api; gives `tokens_per_day`.
        gpus: GPUs of the machine.
        years: the time over which `hours` counts; those of the Ownership if there is one, else 1.

    Raises:
        ValueError: if an Api comes without a throughput, or a value is out of bounds.
    """
    count = whole("gpus", gpus, 1)
    speed = None if tokens_per_second is None else amount("tokens_per_second", tokens_per_second, POSITIVE)
    one, two = _split(first, speed, count), _split(second, speed, count)
    used = combine(_crossing, *one, *two, unit="of all hours")
    owned = next((option for option in (first, second) if isinstance(option, Ownership)), None)
    if years is not None or owned is None:
        span = amount("years", 1 if years is None else years, POSITIVE)
    else:
        span = owned.given("years")
    hours = combine(lambda u, n: u * n * HOURS_PER_YEAR, used, span, unit="hours of use")
    daily = speed and combine(lambda u, n: u * n * 24 * SECONDS, used, speed, unit="tokens per day")
    return BreakEven(first.name, second.name, used, hours, daily)


def usd_per_day(
    option: Ownership | Rent | Api, utilisation: Amount, *, tokens_per_second: Amount | None = None, gpus: int = 1
) -> Estimate:
    """USD per day of `gpus` GPUs that are busy a share `utilisation` (0 to 1) of the time: the lines that cross.

    Arguments and errors are those of `break_even`; a utilisation of 0 is allowed.
    """
    count = whole("gpus", gpus, 1)
    speed = None if tokens_per_second is None else amount("tokens_per_second", tokens_per_second, POSITIVE)
    share = amount("utilisation", utilisation, SHARE)
    fixed, variable = _split(option, speed, count)
    return combine(lambda f, v, u: 24 * count * (f + v * u), fixed, variable, share, unit="USD per day")


def _split(option: Ownership | Rent | Api, speed: Estimate | None, gpus: int) -> tuple[Estimate, Estimate]:
    """(fixed, variable) USD per GPU-hour. An hour of use costs an API's customer the tokens of that hour."""
    if not isinstance(option, Ownership | Rent | Api):
        raise ValueError(f"an option must be an Ownership, a Rent or an Api; got {option!r}")
    if not isinstance(option, Api):
        return option.fixed, option.variable
    if speed is None:
        raise ValueError(
            f"tokens_per_second must be given to compare with {option.name!r}, which sells tokens; got None"
        )
    busy = combine(lambda usd, n: usd / MILLION * n * SECONDS / gpus, option.price, speed, unit=PER_HOUR)
    return Estimate({}, lambda _: 0.0), busy


def _crossing(fixed1: float, variable1: float, fixed2: float, variable2: float) -> float:
    """Share of use from which option 1 costs less; 0 if it always does, infinity if more use never helps."""
    if variable1 < variable2:
        return max(0.0, (fixed1 - fixed2) / (variable2 - variable1))
    always = fixed1 <= fixed2 and fixed1 + variable1 <= fixed2 + variable2  # at no use, and at full use
    return 0.0 if always else math.inf


def _counts(input_tokens: int, cached_tokens: int, output_tokens: int) -> dict[str, int]:
    """Tokens of a request by kind, checked."""
    sent, kept, written = (
        whole(name, value)
        for name, value in (
            ("input_tokens", input_tokens),
            ("cached_tokens", cached_tokens),
            ("output_tokens", output_tokens),
        )
    )
    if kept > sent:
        raise ValueError(f"cached_tokens must be at most input_tokens ({sent:,}); got {kept:,}")
    return {"input": sent - kept, "cached_input": kept, "output": written}
