"""Ways to get a GPU-hour: own the card, rent it, or leave it to somebody who sells tokens.

Each option costs something in every hour, used or not (`fixed`), and something more in an hour of use (`variable`).
This one split gives the price of a GPU-hour, of a token, and every break-even. A year has 8,760 hours, a month 730.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from kvlib.ranges import ANY, POSITIVE, SHARE, Amount, Estimate, Limits, amount, combine

HOURS_PER_YEAR, HOURS_PER_MONTH = 8_760, 730
PER_HOUR = "USD per GPU-hour"

# What each argument of Ownership is called in a tornado, and what it may be.
_INPUTS: dict[str, tuple[str, Limits]] = {
    "price_usd": ("price of the card", ANY),
    "server_usd": ("share of the server", ANY),
    "network_usd": ("share of the network", ANY),
    "years": ("years of use", POSITIVE),
    "residual": ("residual value", SHARE),
    "interest": ("interest", Limits(most=1)),
    "kilowatts": ("power draw", ANY),
    "pue": ("PUE", Limits(least=1)),
    "usd_per_kwh": ("price of electricity", ANY),
    "idle_power": ("power when idle", SHARE),
    "colocation_usd_per_kw_month": ("colocation", ANY),
    "staff_usd_per_year": ("staff and upkeep", ANY),
    "overhead": ("overhead", Limits(most=10)),
}


def capital_per_year(capex: float, years: float, residual: float, interest: float) -> float:
    """What a purchase costs per year: a straight line at interest 0, an annuity above; both keep `residual` at the end.

    The annuity pays interest on what is still tied up, and its present value is the price less that of the residual.
    """
    if interest == 0:
        return capex * (1 - residual) / years
    discount = math.exp(-years * math.log1p(interest))  # what a dollar at the end is worth today
    return capex * (1 - residual * discount) * interest / -math.expm1(-years * math.log1p(interest))


@dataclass(frozen=True, eq=False, repr=False)
class Ownership:
    """One owned GPU, with its share of server and network: what an hour of it costs.

    Every argument takes a number, (low, high) or (low, likely, high); a ValueError names the argument and the value.

    Args:
        price_usd: the card.
        server_usd: its share of the server (CPUs, memory, chassis). The price of a card leaves this out.
        network_usd: its share of switches, cables, storage.
        years: years of use, above 0.
        residual: what it can be sold for at the end, as a share of the purchase, 0 to 1.
        interest: cost of capital per year, 0 to 1: 0 is a straight line, 0.1 an annuity at 10 %.
        kilowatts: what the GPU and its share of the server draw when busy.
        pue: energy of the building for each unit of the machines', 1 or more; 1 if `kilowatts` has cooling in it.
        usd_per_kwh: price of electricity.
        idle_power: share of that power which an idle GPU still draws, 0 to 1. It matters for break-evens only.
        colocation_usd_per_kw_month: rent of the room, for each kW and month of 730 hours.
        staff_usd_per_year: people, spares, software, insurance, for each GPU.
        overhead: what comes on top of all that, as a share of it.
        name: stands before the inputs' names in a tornado; two Ownerships in one comparison need two names.
    """

    price_usd: Amount
    years: Amount
    server_usd: Amount = 0.0
    network_usd: Amount = 0.0
    residual: Amount = 0.0
    interest: Amount = 0.0
    kilowatts: Amount = 0.0
    pue: Amount = 1.0
    usd_per_kwh: Amount = 0.0
    idle_power: Amount = 0.0
    colocation_usd_per_kw_month: Amount = 0.0
    staff_usd_per_year: Amount = 0.0
    overhead: Amount = 0.0
    name: str = "own"

    def __post_init__(self) -> None:
        for field in _INPUTS:
            self.given(field)

    def given(self, field: str) -> Estimate:
        """One argument, such as "years", as an Estimate."""
        label, limits = _INPUTS[field]
        return amount(field, getattr(self, field), limits, label=f"{self.name}: {label}")

    def _all(self, *fields: str) -> list[Estimate]:
        return [self.given(field) for field in fields]

    @cached_property
    def capex_usd(self) -> Estimate:
        """What is paid on the first day: card, server, network."""
        return combine(_sum, *self._all("price_usd", "server_usd", "network_usd"), unit="USD")

    @cached_property
    def parts(self) -> dict[str, Estimate]:
        """USD per hour of each part; they add up to `usd_per_gpu_hour`. Power is that of a busy hour."""
        terms = self._all("years", "residual", "interest")
        parts = {
            what: combine(_capital_per_hour, self.given(field), *terms, unit=PER_HOUR)
            for what, field in (("card", "price_usd"), ("server", "server_usd"), ("network", "network_usd"))
        }
        parts["power"] = combine(_power, *self._all("kilowatts", "pue", "usd_per_kwh"), unit=PER_HOUR)
        room = self._all("kilowatts", "colocation_usd_per_kw_month")
        parts["colocation"] = combine(lambda kw, price: kw * price / HOURS_PER_MONTH, *room, unit=PER_HOUR)
        parts["staff"] = combine(lambda year: year / HOURS_PER_YEAR, self.given("staff_usd_per_year"), unit=PER_HOUR)
        parts["overhead"] = combine(
            lambda share, *costs: share * _sum(*costs), self.given("overhead"), *parts.values(), unit=PER_HOUR
        )
        return parts

    @cached_property
    def usd_per_gpu_hour(self) -> Estimate:
        """What an hour costs that is used in full."""
        return combine(_sum, *self.parts.values(), unit=PER_HOUR)

    @cached_property
    def variable(self) -> Estimate:
        """USD that only an hour of use costs: the power beyond the idle power, with its overhead."""
        return combine(
            lambda power, idle, overhead: power * (1 - idle) * (1 + overhead),
            self.parts["power"],
            *self._all("idle_power", "overhead"),
            unit=PER_HOUR,
        )

    @cached_property
    def fixed(self) -> Estimate:
        """USD that every hour costs, used or not: capital, room, staff, idle power."""
        return combine(lambda total, used: total - used, self.usd_per_gpu_hour, self.variable, unit=PER_HOUR)

    def __repr__(self) -> str:
        return f"{self.name}: {self.usd_per_gpu_hour}"


@dataclass(frozen=True, eq=False, repr=False)
class Rent:
    """One rented GPU. `paid` is "used" (by the hour, on demand) or "always" (a contract: every hour, used or not)."""

    usd_per_gpu_hour: Amount
    paid: str = "used"
    name: str = "rent"

    def __post_init__(self) -> None:
        if self.paid not in ("used", "always"):
            raise ValueError(f"paid must be 'used' or 'always'; got {self.paid!r}")
        _ = self.hour

    @cached_property
    def hour(self) -> Estimate:
        """USD of a paid hour."""
        label = f"{self.name}: price of an hour"
        return amount("usd_per_gpu_hour", self.usd_per_gpu_hour, label=label, unit=PER_HOUR)

    @property
    def fixed(self) -> Estimate:
        """USD that every hour costs: the price under a contract, nothing on demand."""
        return self.hour if self.paid == "always" else _nothing()

    @property
    def variable(self) -> Estimate:
        """USD that only an hour of use costs: the price on demand, nothing under a contract."""
        return self.hour if self.paid == "used" else _nothing()

    def __repr__(self) -> str:
        return f"{self.name}: {self.hour}, paid {'by the hour' if self.paid == 'used' else 'in every hour'}"


@dataclass(frozen=True, eq=False, repr=False)
class Api:
    """Somebody else's machine at a price per million tokens: nothing is paid for an hour without tokens.

    The tokens are those that the throughput of a comparison counts. `kvlib.prices` turns a price list into this number.
    """

    usd_per_million: Amount
    name: str = "api"

    def __post_init__(self) -> None:
        _ = self.price

    @cached_property
    def price(self) -> Estimate:
        """USD per million tokens."""
        label = f"{self.name}: price of a million tokens"
        return amount("usd_per_million", self.usd_per_million, label=label, unit="USD per million tokens")

    def __repr__(self) -> str:
        return f"{self.name}: {self.price}"


def _sum(*numbers: float) -> float:
    return math.fsum(numbers)


def _capital_per_hour(capex: float, years: float, residual: float, interest: float) -> float:
    return capital_per_year(capex, years, residual, interest) / HOURS_PER_YEAR


def _power(kilowatts: float, pue: float, usd_per_kwh: float) -> float:
    return kilowatts * pue * usd_per_kwh


def _nothing() -> Estimate:
    return Estimate({}, lambda _: 0.0, PER_HOUR)
