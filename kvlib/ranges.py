"""Inputs that are not known exactly, and what follows from them: a range in, a range out.

An input is a number, (low, high), (low, likely, high) or a Range. A result is an Estimate: it remembers its formula and
its inputs, so a further formula can build on it, and one tornado shows every assumption of the whole chain.

The range is Monte Carlo with a fixed seed. Every input is cut into equal slices of probability and drawn once from each
(a Latin hypercube). Its draws depend on the seed and on its name alone: an input that stands on both sides of a
comparison moves on both sides together. 2,000 draws tell an end of the range to about 2 % of its width.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property, lru_cache
from numbers import Real
from typing import Any

DRAWS, SEED = 2_000, 1


@dataclass(frozen=True)
class Range:
    """An input between `low` and `high`: all values alike, or around the `likely` one (a triangle)."""

    low: float
    high: float
    likely: float | None = None

    def __post_init__(self) -> None:
        numbers = [self.low, self.high] if self.likely is None else [self.low, self.likely, self.high]
        if not all(_real(number) for number in numbers) or sorted(numbers) != numbers:
            raise ValueError(f"a range must be low, (likely,) high: finite and in this order; got {tuple(numbers)!r}")

    @property
    def middle(self) -> float:
        """The likely value, or the middle if none is named."""
        return (self.low + self.high) / 2 if self.likely is None else self.likely

    def at(self, probability: float) -> float:
        """The value below which the input lies with this probability, 0 to 1."""
        width = self.high - self.low
        if self.likely is None:
            value = self.low + probability * width
        elif probability * width < self.likely - self.low:
            value = self.low + math.sqrt(probability * width * (self.likely - self.low))
        else:
            value = self.high - math.sqrt((1 - probability) * width * (self.high - self.likely))
        return min(max(value, self.low), self.high)

    def scaled(self, factor: float) -> Range:
        """The same range in another unit: every value times `factor`, which is above 0."""
        return Range(self.low * factor, self.high * factor, None if self.likely is None else self.middle * factor)


@dataclass(frozen=True)
class Bar:
    """One bar of a tornado: the result with this input at its low and at its high end, all others at their middle."""

    name: str
    low_input: float
    high_input: float
    at_low: float
    at_high: float
    share: float = math.nan

    @property
    def swing(self) -> float:
        """How far the result moves, without sign."""
        return 0.0 if self.at_low == self.at_high else abs(self.at_high - self.at_low)


@dataclass(frozen=True, eq=False, repr=False)
class Estimate:
    """A result: `formula` of the uncertain `inputs`, in `unit`. The answer is `low` to `high`, not `point`.

    The formula takes the values of the inputs by name. Inputs that are plain numbers are already inside it.
    """

    inputs: Mapping[str, Range]
    formula: Callable[[Mapping[str, float]], float]
    unit: str = ""

    @cached_property
    def point(self) -> float:
        """The result with every input at its middle (its likely value, where one is named)."""
        return self.formula({name: given.middle for name, given in self.inputs.items()})

    def at(self, values: Mapping[str, float]) -> float:
        """The result with some inputs at these values and the others at their middle."""
        for name in values:
            if name not in self.inputs:
                raise ValueError(f"input must be one of {', '.join(self.inputs) or 'none'}; got {name!r}")
        return self.formula({name: values.get(name, given.middle) for name, given in self.inputs.items()})

    def draws(self, draws: int = DRAWS, seed: int = SEED) -> list[float]:
        """The sorted results of `draws` draws of all inputs; `seed` makes them repeatable."""
        columns = [[given.at(p) for p in _slices(name, draws, seed)] for name, given in self.inputs.items()]
        if not columns:
            return [self.point]
        return sorted(self.formula(dict(zip(self.inputs, row, strict=True))) for row in zip(*columns, strict=True))

    @cached_property
    def _drawn(self) -> list[float]:
        return self.draws()

    def percentile(self, share: float) -> float:
        """The result below which this share (0 to 1) of the draws lies."""
        return self._drawn[round(share * (len(self._drawn) - 1))]

    @property
    def low(self) -> float:
        """5 % of the draws lie below."""
        return self.percentile(0.05)

    @property
    def high(self) -> float:
        """95 % of the draws lie below."""
        return self.percentile(0.95)

    @cached_property
    def least(self) -> float:
        """The smallest result that the inputs allow, all of them at their worst at once."""
        return -self._extreme(-1)

    @cached_property
    def most(self) -> float:
        """The largest result that the inputs allow."""
        return self._extreme(1)

    def _extreme(self, sign: int) -> float:
        """Move one input after another to the end that pushes the result up (sign 1) or down, until nothing moves.

        Exact where each input pushes one way whatever the others are, as in every formula of kvlib.cost.
        """
        values = {name: given.middle for name, given in self.inputs.items()}
        best, before = sign * self.formula(values), -math.inf
        while best > before:
            before = best
            for name, given in self.inputs.items():
                for end in (given.low, given.high):
                    if (trial := sign * self.formula({**values, name: end})) > best:
                        best, values = trial, {**values, name: end}
        return best

    def tornado(self) -> tuple[Bar, ...]:
        """One Bar for each uncertain input, the widest first: which assumption matters most.

        `share` is the part of all swings together; where the formula is a sum, the swings add up to `most - least`.
        """
        bars = [
            Bar(name, given.low, given.high, self.at({name: given.low}), self.at({name: given.high}))
            for name, given in self.inputs.items()
        ]
        total = math.fsum(bar.swing for bar in bars)
        shared = [
            Bar(bar.name, bar.low_input, bar.high_input, bar.at_low, bar.at_high, bar.swing / total if total else 0.0)
            for bar in bars
        ]
        return tuple(sorted(shared, key=lambda bar: -bar.swing))

    def __repr__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        if not self.inputs:
            return f"{_text(self.point)}{unit} (no input is a range)"
        return f"{_text(self.low)} to {_text(self.high)}{unit} (90 % of the draws; middle {_text(self.point)})"


Amount = float | tuple[float, ...] | Range | Estimate


@dataclass(frozen=True)
class Limits:
    """What an input may be: `above` leaves the limit out, `least` and `most` let it in."""

    least: float = 0.0
    above: float = -math.inf
    most: float = math.inf

    def hold(self, low: float, high: float) -> bool:
        """Whether low..high is finite and inside."""
        return (
            math.isfinite(low) and math.isfinite(high) and low >= self.least and low > self.above and high <= self.most
        )

    def __str__(self) -> str:
        start = f"above {self.above:g}" if self.above >= self.least else f"{self.least:g} or more"
        return start if math.isinf(self.most) else f"{start} and at most {self.most:g}"


ANY, POSITIVE, SHARE, USED = Limits(), Limits(above=0), Limits(most=1), Limits(above=0, most=1)


def amount(name: str, value: Amount, limits: Limits = ANY, *, label: str = "", unit: str = "") -> Estimate:
    """`value` as an Estimate whose one uncertain input, if it is a range, is called `label` (or `name`).

    Args:
        name: the argument, for the error.
        value: a number, (low, high), (low, likely, high), a Range, or an Estimate, which keeps its own inputs.
        limits: what is allowed.
        label: the name in the tornado.
        unit: shown after the number.

    Raises:
        ValueError: if the value is none of these, not finite, or outside the limits, at either end.
    """
    wanted = f"{name} must be a number {limits}, or a range (low, high) of such numbers; got {value!r}"
    if isinstance(value, Estimate):
        low, high, result = value.least, value.most, value
    elif _real(value):
        number = float(value)  # type: ignore[arg-type]  # _real says so
        low, high, result = number, number, Estimate({}, lambda _: number, unit)
    else:
        given, key = _as_range(wanted, value), label or name
        low, high, result = given.low, given.high, Estimate({key: given}, lambda values: values[key], unit)
    if not limits.hold(low, high):
        raise ValueError(wanted)
    return result


def _as_range(wanted: str, value: Any) -> Range:
    if isinstance(value, Range):
        return value
    if not isinstance(value, tuple) or len(value) not in (2, 3) or not all(_real(item) for item in value):
        raise ValueError(wanted)
    try:
        return Range(float(value[0]), float(value[-1]), float(value[1]) if len(value) == 3 else None)
    except ValueError as error:
        raise ValueError(f"{wanted}: {error}") from None


def combine(function: Callable[..., float], *parts: Estimate, unit: str = "") -> Estimate:
    """`function` of several estimates, in the order given. Their inputs are merged: one name is one input.

    Raises:
        ValueError: if two inputs share a name and are not the same range.
    """
    inputs: dict[str, Range] = {}
    for part in parts:
        for name, given in part.inputs.items():
            if inputs.setdefault(name, given) != given:
                raise ValueError(
                    f"two different inputs are called {name!r}: {inputs[name]} and {given}; "
                    "give the options different names (name=...)"
                )
    formulas = [part.formula for part in parts]
    return Estimate(inputs, lambda values: function(*(formula(values) for formula in formulas)), unit)


def _real(value: object) -> bool:
    """A finite number that a float can hold, and no bool."""
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


@lru_cache(maxsize=256)
def _slices(name: str, draws: int, seed: int) -> tuple[float, ...]:
    """One probability from each of `draws` equal slices of 0..1, in an order that depends on the name and the seed."""
    generator = random.Random(f"{seed}/{name}")
    column = [(index + generator.random()) / draws for index in range(draws)]
    generator.shuffle(column)
    return tuple(column)


def _text(number: float) -> str:
    """Four significant digits (five above 10,000), "never" for infinity."""
    if math.isinf(number):
        return "never"
    digits = 3 - math.floor(math.log10(abs(number))) if number else 2
    return f"{round(number, digits + 1):,.{min(max(digits, 0), 9)}f}"
