"""The shared cars in pictures, words and a table: users on machines, how long they wait and what a token costs.

A simulation, and said to be one. Each machine gets its share of the users; that there is one queue for all machines
(`kvlib.sharing.share` has one) is left out here, so waits are a little too long where there are several.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from kvlib.cost import SECONDS, cost_per_million
from kvlib.demand import Demand, poisson_demand
from kvlib.outcome import Sharing
from kvlib.pooling import published_lengths
from kvlib.replica import Replica, replica
from kvlib.sharing import share
from kvlib.show.svg import _LETTER, EDGE, WIDTH, Picture, _text, picture, plural, shade
from kvlib.show.tables import Html, table
from kvlib.units import size, usd

SIMULATED, SATURATED, SEED = 800, 3_000, 1
MACHINES: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama 3.1 8B on one H100": ("llama-3.1-8b", {"tp": 1}),
    "Llama 3.1 70B in FP8 on eight H100": ("llama-3.1-70b", {"tp": 8, "weight_dtype": "fp8"}),
}
CLOSE = 0.1  # of the number: a prediction this near to a mistake's number looks like that mistake
_LEFT, _ROW = 210, 58


@lru_cache(maxsize=8)
def machine(name: str) -> Replica:
    """One machine with its model; a ValueError names those that there are."""
    if name not in MACHINES:
        raise ValueError(f"machine must be one of {', '.join(MACHINES)}; got {name!r}")
    model, given = MACHINES[name]
    return replica(model, "h100-sxm", **given)


@lru_cache(maxsize=8)
def full(name: str) -> Sharing:
    """A machine to which everybody comes at once."""
    return share(_demand(1e6, SATURATED), machine(name), progress=False)


def capacity(name: str) -> float:
    """Requests per second that a full machine serves: without its filling up at first and its running empty at last."""
    began, ended = np.quantile(full(name).finished, (0.3, 0.8))
    return float(0.5 * SATURATED / (ended - began))


@lru_cache(maxsize=256)
def simulated(name: str, rate: float) -> Sharing:
    """A machine to which `rate` requests per second come."""
    return share(_demand(rate, SIMULATED), machine(name), progress=False)


def _demand(rate: float, requests: int) -> Demand:
    """Requests as long as those of a public trace of chats."""
    return poisson_demand(rate, requests, *published_lengths(), np.random.default_rng(SEED))


@dataclass(frozen=True)
class Cars:
    """Users who each ask `per_hour` times an hour, machines that serve them, and the rent of a GPU-hour in cents."""

    machine: str
    users: int
    per_hour: int
    machines: int
    rent_cents: int

    @property
    def rate(self) -> float:
        """Requests per second that come to one machine."""
        return self.users * self.per_hour / SECONDS / self.machines

    @property
    def load(self) -> float:
        """The rate as a share of what a full machine serves."""
        return self.rate / capacity(self.machine)

    @property
    def overloaded(self) -> bool:
        """Whether more comes than a full machine can serve: the queue would grow for ever."""
        return self.load >= 1

    @cached_property
    def result(self) -> Sharing:
        """The simulation of one machine; where it is overloaded, that of a full one."""
        return full(self.machine) if self.overloaded else simulated(self.machine, self.rate)

    @property
    def price(self) -> float:
        """USD per million output tokens, all hours of the machine paid by them; if overloaded, those of a full one."""
        return self._price(min(self.rate, capacity(self.machine)))

    @property
    def alone(self) -> float:
        """The same price, if every user had a machine of his own."""
        return self._price(self.per_hour / SECONDS)

    @property
    def full(self) -> float:
        """The same price, if the machine were full all the time."""
        return self._price(capacity(self.machine))

    def _price(self, rate: float) -> float:
        """In the long run as many answers leave as requests come; their mean length is that of the longest run."""
        tokens = rate * float(full(self.machine).demand.outputs.mean())
        hour = self.rent_cents / 100 * machine(self.machine).gpus
        price = cost_per_million(hour, utilisation=1, output_per_second=tokens).output
        assert price is not None
        return price.point

    @property
    def held(self) -> float:
        """Bytes of cache held on average, on all GPUs of a machine."""
        return self.result.memory * self.room

    @property
    def room(self) -> float:
        """Bytes for caches, on all GPUs of a machine."""
        return self.result.replica.room * self.result.replica.gpus


def asked(cars: Cars) -> str:
    """The question in words."""
    return (
        f"{plural(cars.users, 'user')}, {cars.per_hour} requests an hour each, on "
        f"{plural(cars.machines, 'machine')} ({cars.machine}) at {usd(cars.rent_cents / 100)} per GPU-hour"
    )


def _title(cars: Cars) -> str:
    """Users and machines, short enough for a picture."""
    return f"{plural(cars.users, 'user')} on {plural(cars.machines, 'machine')}, {cars.machine}"


def cars_sentence(cars: Cars) -> str:
    """Wait, price, how busy, how full, in words; or that the queue never ends."""
    memory = f"{size(cars.held)} of {size(cars.room)} of cache memory held"
    if cars.overloaded:
        return (
            f"Simulated: OVERLOAD. {cars.rate:,.3g} requests per second come to a machine that serves "
            f"{capacity(cars.machine):,.3g}; the queue grows for ever. Full, with {memory}, a million output "
            f"tokens cost {usd(cars.price)}."
        )
    middle, late = np.quantile(cars.result.ttft, (0.5, 0.95))
    return (
        f"Simulated: the first token comes after {_time(middle)} (half of them) to {_time(late)} (95 %); a million "
        f"output tokens cost {usd(cars.price)}, and {usd(cars.alone)} if everybody had a machine of their own. Each "
        f"machine works {cars.result.utilisation:.0%} of the time on {cars.result.in_system:,.1f} requests at once, "
        f"{memory}."
    )


def cars_picture(cars: Cars) -> Picture:
    """Four scales: the wait and the price (each mark ten times the one before), how busy, how full."""
    result, drawn = cars.result, [_text(EDGE, 15, f"Simulated: {_title(cars)}", weight=600)]
    title = "OVERLOAD: no wait to show" if cars.overloaded else ""
    drawn.append(_scale(0, "first token", "after seconds", (0.01, 0.1, 1, 10), title))
    if not cars.overloaded:
        middle, late = (float(seconds) for seconds in np.quantile(result.ttft, (0.5, 0.95)))
        left, right = _on_log(middle, 0.01, 10), _on_log(late, 0.01, 10)
        drawn.append(_block(0, "wait", left, max(right, left + 3), 0, f"{_time(middle)} to {_time(late)}"))
    drawn.append(_scale(1, "a million output", "tokens, USD", (0.01, 0.1, 1, 10, 100, 1_000, 10_000)))
    for value, words in ((cars.full, "full"), (cars.alone, "one for everybody")):
        drawn.append(_tick(1, _on_log(value, 0.01, 10_000), words))
    here = _on_log(cars.price, 0.01, 10_000)
    drawn.append(_block(1, "price", here - 4, here + 4, 1, usd(cars.price)))
    for row, (name, unit, value, words) in enumerate(
        (
            ("works", "share of the time", result.utilisation, f"{result.utilisation:.0%}"),
            ("cache memory", "share held", result.memory, f"{size(cars.held)} of {size(cars.room)}"),
        ),
        start=2,
    ):
        drawn.append(_scale(row, name, unit, (0, 25, 50, 75, 100), log=False))
        drawn.append(_block(row, name, _LEFT, _LEFT + max(2, _wide() * value), row, words))
    return picture("".join(drawn), 30 + 4 * _ROW, cars_sentence(cars))


def _wide() -> float:
    return WIDTH - EDGE - 30.0 - _LEFT


def _on_log(value: float, low: float, high: float) -> float:
    """Where a value stands on a logarithmic scale; outside it, at its end."""
    place = math.log(max(value, 1e-12) / low) / math.log(high / low)
    return _LEFT + _wide() * min(max(place, 0), 1)


def _scale(row: int, name: str, unit: str, marks: tuple[float, ...], words: str = "", log: bool = True) -> str:
    """One scale with its marks."""
    y = 30 + _ROW * row + 36
    drawn = [
        _text(EDGE, y - 12, name),
        _text(EDGE, y + 4, unit),
        f'<path d="M{_LEFT} {y}h{_wide():.1f}" stroke="currentColor" stroke-opacity="0.5"/>',
    ]
    for mark in marks:
        x = _on_log(mark, marks[0], marks[-1]) if log else _LEFT + _wide() * mark / 100
        drawn.append(f'<path d="M{x:.1f} {y}v5" stroke="currentColor"/>')
        drawn.append(_text(x, y + 17, f"{mark:,g}" if log else f"{mark:g}%", anchor="middle"))
    return "".join(drawn) + (_text(_LEFT + 10, y - 8, words, weight=600) if words else "")


def _block(row: int, name: str, left: float, right: float, colour: int, words: str) -> str:
    """A block on a scale, with its value beside it."""
    y = 30 + _ROW * row + 22
    drawn = (
        f'<rect class="block" data-what="{name}" x="{left:.1f}" y="{y}" width="{right - left:.1f}" height="14" '
        f'fill="{shade(colour)[0]}"/>'
    )
    if right + 6 + 1.15 * len(words) * _LETTER < WIDTH - EDGE:
        return drawn + _text(right + 6, y + 8, words, weight=600)
    return drawn + _text(WIDTH - EDGE, y - 5, words, anchor="end", weight=600)


def _tick(row: int, x: float, words: str) -> str:
    """A thin mark on a scale, with words over it."""
    y = 30 + _ROW * row + 36
    look = 'stroke="currentColor" stroke-width="2" stroke-dasharray="3 2"'
    return f'<path d="M{x:.1f} {y - 16}V{y}" {look}/>' + _text(
        x, y - 20, words, anchor="end" if x > WIDTH - 90 else "middle"
    )


def cars_table(cars: Cars) -> Html:
    """The same line by line."""
    result = cars.result
    waits = ("grows for ever",) * 2 if cars.overloaded else map(_time, np.quantile(result.ttft, (0.5, 0.95)))
    body = [
        *zip(("first token, half of them within", "first token, 95 % within"), waits, strict=True),
        ("a token after the other, half of them within", _time(float(np.quantile(result.tpot, 0.5)))),
        ("USD per million output tokens", usd(cars.price)),
        ("the same, everybody with a machine of their own", usd(cars.alone)),
        ("the same, machines always full", usd(cars.full)),
        ("a machine works", f"{result.utilisation:.0%} of the time"),
        ("requests in a machine, waiting ones too", f"{result.in_system:,.1f}"),
        ("cache memory held", f"{size(cars.held)} of {size(cars.room)}"),
        ("rent of all machines, USD per hour", usd(cars.machines * result.replica.gpus * cars.rent_cents / 100)),
    ]
    return table(f"Simulated: {asked(cars)}", ("what", "in the simulation"), body)


def verdict(cars: Cars, predicted: float) -> str:
    """How far off the predicted price (USD per million) was, and the usual mistake that explains it, if one does.

    Raises:
        ValueError: if predicted is not above 0.
    """
    if not predicted > 0:
        raise ValueError(f"predicted must be USD per million tokens, above 0; got {predicted!r}")
    right, said = cars.price, f"You predicted {usd(predicted)}; "
    ratio = predicted / right
    if 0.8 <= ratio <= 1.25:
        return f"{said}near enough."
    words = f"{said}it is {max(ratio, 1 / ratio):,.3g} times too {'high' if ratio > 1 else 'low'}."
    slip = next((why for wrong, why in _slips(cars) if abs(wrong - predicted) <= CLOSE * wrong), None)
    return words + (f" It looks as if {slip}." if slip else "")


def _slips(cars: Cars) -> list[tuple[float, str]]:
    """Prices that the usual mistakes lead to."""
    gpus = cars.result.replica.gpus
    return [
        (cars.full, "you let the machines be full all the time"),
        (cars.alone, "you gave everybody a machine of their own"),
        *([(cars.price / gpus, "you paid for one GPU of the machine")] if gpus > 1 else []),
        *([(cars.price / cars.machines, "you paid for one machine")] if cars.machines > 1 else []),
    ]


def _time(seconds: float) -> str:
    """Seconds as people read them."""
    return f"{seconds * 1e3:,.3g} ms" if seconds < 1 else f"{seconds:,.3g} s"
