"""Three ways to get an H100-hour, as the controls of a panel describe them, in pictures, words and a table.

What the controls do not ask (interest, residual value, PUE, room, staff) keeps the ranges of `owner("honest")`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from kvlib.anchors import owner
from kvlib.cost import BreakEven, break_even, cost_per_million
from kvlib.hardware import gpu
from kvlib.owning import HOURS_PER_YEAR, Api, Ownership, Rent
from kvlib.ranges import Estimate
from kvlib.show.cost_pictures import Line, lines, lines_picture, span
from kvlib.show.svg import Picture
from kvlib.show.tables import Html, table
from kvlib.units import GB, size, usd

RIVALS = {"rent": "renting on demand", "api": "calling an API"}
DRAWS = 400  # enough for a picture, and a slider stays quick
CLOSE = 0.02  # of the number: a prediction this near to a mistake's number looks like that mistake


@dataclass(frozen=True)
class Rivals:
    """The choice: what is compared with owning, the prices, the speed, and the share of hours that you would use."""

    rival: str
    card_usd: int
    around_usd: int
    years: int
    power_cents: int
    rent_cents: int
    api_cents: int
    speed: int
    used_percent: int

    @property
    def used(self) -> float:
        """Share of all hours."""
        return self.used_percent / 100

    @property
    def own(self) -> Ownership:
        """The card with its part of server and network; the rest is the honest owner's."""
        return _own(self.card_usd, self.around_usd, self.years, self.power_cents)

    @cached_property
    def others(self) -> dict[str, Rent | Api]:
        """The options that are not owning, by their key in RIVALS."""
        return {
            "rent": Rent(self.rent_cents / 100, name="rent on demand"),
            "api": Api(self.api_cents / 100, name="API"),
        }

    @cached_property
    def options(self) -> dict[str, Ownership | Rent | Api]:
        """What is drawn."""
        return {"own": self.own, "rent on demand": self.others["rent"], "API": self.others["api"]}

    @cached_property
    def even(self) -> BreakEven:
        """Where owning and its rival cost the same."""
        return break_even(self.own, self.others[self.rival], tokens_per_second=self.speed)

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """USD per day of each option."""
        rest = {name: option for name, option in self.options.items() if name != "own"}
        return (_own_line(self.own), *lines(rest, self.speed, draws=DRAWS))

    @cached_property
    def even_span(self) -> tuple[float, float]:
        """The ends of the break-even, as a share of all hours."""
        return span(self.even.utilisation, DRAWS)


@lru_cache(maxsize=64)
def _own(card_usd: int, around_usd: int, years: int, power_cents: int) -> Ownership:
    """One owner for the same four controls, so that what was drawn for it is kept while the others move."""
    power = power_cents / 100
    return replace(
        owner("honest"), price_usd=card_usd, server_usd=around_usd, network_usd=0, years=years, usd_per_kwh=power
    )


@lru_cache(maxsize=64)
def _own_line(own: Ownership) -> Line:
    (line,) = lines({"own": own}, 1, draws=DRAWS)
    return line


@lru_cache(maxsize=64)
def _hour_span(own: Ownership) -> tuple[float, float]:
    hour: Estimate = own.usd_per_gpu_hour
    return span(hour, DRAWS)


def asked(rivals: Rivals) -> str:
    """The question in words."""
    return (
        f"An H100 for ${rivals.card_usd:,} with ${rivals.around_usd:,} of server and network, used for "
        f"{rivals.years} years: from which share of all hours is owning cheaper than {RIVALS[rivals.rival]}?"
    )


def rivals_sentence(rivals: Rivals) -> str:
    """Where owning pays, what an hour and a GB-hour of its memory cost, and which option is cheapest at your use."""
    hour, memory = rivals.own.usd_per_gpu_hour.point, gpu("h100-sxm").visible_bytes
    assert memory is not None
    days, (low, high) = cheapest(rivals), _hour_span(rivals.own)
    return (
        f"{_pays(rivals)}. An owned hour costs {usd(hour)} ({usd(low)} to {usd(high)}), which is "
        f"{usd(hour / (memory / GB))} for each GB of its {size(memory)}. At {rivals.used_percent} % the "
        f"cheapest is: {days[0][0]}, {usd(days[0][1])} a day."
    )


def _pays(rivals: Rivals) -> str:
    """From which share of use owning pays, with the range."""
    rival, middle, (low, high) = RIVALS[rivals.rival], rivals.even.utilisation.point, rivals.even_span
    if low == math.inf:
        return f"Owning never pays: it is dearer than {rival} at every share of use"
    drawn = f"({_percent(low)} to {_percent(high)} in 90 % of the draws)"
    if middle > 1:
        return f"Owning never pays: to be cheaper than {rival} it would need {_percent(middle)} of all hours {drawn}"
    return f"Owning is cheaper than {rival} above {_percent(middle)} of all hours {drawn}"


def cheapest(rivals: Rivals) -> list[tuple[str, float]]:
    """(option, USD per day at your use), the cheapest first."""
    days = [(line.name, line.middle[0] + rivals.used * (line.middle[-1] - line.middle[0])) for line in rivals.lines]
    return sorted(days, key=lambda day: day[1])


def rivals_picture(rivals: Rivals) -> Picture:
    """The lines against the share of use, with a mark at yours."""
    title = f"One H100, {rivals.speed:,} tokens per second: USD per day"
    return lines_picture(rivals.lines, title, rivals_sentence(rivals), rivals.used)


def rivals_table(rivals: Rivals) -> Html:
    """USD per day unused, at your use and in full use, and per million tokens at your use."""
    at_use, body = dict(cheapest(rivals)), []
    for line in rivals.lines:
        option = rivals.options[line.name]
        if isinstance(option, Api):
            million = option.price.point
        else:  # hours that are not used are paid by an owner only
            used = rivals.used if isinstance(option, Ownership) else 1
            million = cost_per_million(option, utilisation=used, output_per_second=rivals.speed).output.point  # type: ignore[union-attr]
        days = (line.middle[0], at_use[line.name], line.middle[-1])
        body.append((line.name, *(usd(day) for day in days), usd(million)))
    memory = gpu("h100-sxm").visible_bytes
    assert memory is not None
    headers = ("USD", "a day, unused", f"{rivals.used_percent} % used", "in full use", "a million tokens")
    caption = f"One H100 with {size(memory)}, {rivals.speed:,} tokens per second, {rivals.used_percent} % used"
    return table(caption, headers, body)


def verdict(rivals: Rivals, predicted: float) -> str:
    """How far off the prediction (% of all hours) was, and the usual mistake that explains it, if one does.

    Raises:
        ValueError: if predicted is not above 0.
    """
    if not predicted > 0:
        raise ValueError(f"predicted must be a share of all hours in %, above 0; got {predicted!r}")
    right, said = rivals.even.utilisation, f"You predicted {predicted:g} %; "
    if right.point > 1 and predicted > 100:
        return f"{said}right, never."
    low, high = rivals.even_span
    if low <= predicted / 100 <= high:
        return f"{said}inside the range."
    words = f"{said}it is never cheaper." if right.point > 1 else f"{said}the middle is {_percent(right.point)}."
    slip = next((why for wrong, why in _slips(rivals) if abs(wrong - predicted / 100) <= CLOSE * wrong), None)
    return words + (f" It looks as if {slip}." if slip else "")


def _slips(rivals: Rivals) -> list[tuple[float, str]]:
    """Shares of use that the usual mistakes lead to, the most telling first."""
    other = rivals.others[rivals.rival]

    def even(mine: Ownership, against: Rent | Api = other, speed: float = rivals.speed) -> float:
        return break_even(mine, against, tokens_per_second=speed).utilisation.point

    bare = replace(rivals.own, server_usd=0)
    only = replace(rivals.own, kilowatts=0, staff_usd_per_year=0)
    hour = rivals.own.usd_per_gpu_hour.point
    return [
        (even(bare), "you bought the bare card, without server and network"),
        (even(only), "you counted the purchase only: power, room and staff are paid too"),
        (even(replace(bare, kilowatts=0, staff_usd_per_year=0)), "you counted the bare card and nothing else"),
        (rivals.rent_cents / 100 / hour, "you divided the rent by the cost of owning, the wrong way round"),
        (even(replace(rivals.own, years=1)), "you let the first year pay for everything"),
        (
            (rivals.card_usd + rivals.around_usd) / (rivals.rent_cents / 100) / HOURS_PER_YEAR,
            "you divided the purchase by the rent of one year",
        ),
    ]


def _percent(share: float) -> str:
    """A share in words: 67 %, "more than there are" for infinity."""
    return "more than there are" if share == math.inf else f"{100 * share:,.0f} %"
