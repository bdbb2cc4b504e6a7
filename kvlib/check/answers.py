"""What did the learner's function give? A number in any form, or the reason in words why it is none."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import isfinite, isnan
from numbers import Real
from typing import Any

CLOSE = Fraction(1, 10**12)  # relative, for floats only: their last digits may differ, whole numbers may not


@dataclass(frozen=True)
class Attempt:
    """What one call gave: a number, or None and the reason in words."""

    number: int | float | Fraction | None
    text: str
    stub: bool = False

    def equals(self, other: float | Fraction) -> bool:
        """The same number in any form: whole numbers exactly, floats to twelve digits."""
        if self.number is None:
            return False
        exact = not isinstance(self.number, float) and not isinstance(other, float)
        mine, theirs = Fraction(self.number), Fraction(other)
        return abs(mine - theirs) <= (0 if exact else CLOSE * abs(theirs))


def attempt(function: Callable[..., Any], inputs: dict[str, Any]) -> Attempt:
    """Call `function` with copies of the inputs, in order, and say what came out."""
    try:
        return number_in(function(*copy.deepcopy(list(inputs.values()))))
    except NotImplementedError:
        return Attempt(None, "not done yet", stub=True)
    except Exception as error:
        message = tame(str(error))
        return Attempt(None, f"your function stopped with {type(error).__name__}{': ' if message else ''}{message}")


def number_in(value: Any) -> Attempt:
    """The number that `value` is, in any form: int, float, Fraction, Decimal, numpy scalar or array of one number."""
    if getattr(value, "size", None) == 1 and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, Decimal):
        value = Fraction(value) if value.is_finite() else float(value)
    if value is None:
        return Attempt(None, "your function returned None: is a `return` missing?")
    if isinstance(value, str):
        return Attempt(None, f"your function returned the text {shown(value)}: return the bare number, without a unit")
    if isinstance(value, bool) or not isinstance(value, Real):
        kind = type(value).__name__
        return Attempt(None, f"your function returned {shown(value)}, of type {kind}: return one number")
    number: int | float | Fraction = value if isinstance(value, int | float | Fraction) else float(value)
    if isinstance(number, float) and not isfinite(number):
        why = "not a number" if isnan(number) else "infinite"
        return Attempt(None, f"your function returned {number}, which is {why}")
    if number < 0:
        return Attempt(None, f"your function returned {plain(number)}: a count is never below zero")
    return Attempt(number, plain(number))


def common_factor(pairs: Sequence[tuple[Any, Any]]) -> str | None:
    """The factor between the numbers of every pair, in words, if there are several pairs and it is the same."""
    if len(pairs) < 2 or any(number is None or not truth for number, truth in pairs):
        return None
    factors = {_factor(number, truth) for number, truth in pairs}
    factor = factors.pop()
    if factors or not factor or max(factor.numerator, factor.denominator) > 10_000:
        return None
    return f"{factor.numerator:,} times" if factor.denominator == 1 else f"{factor} of"


def _factor(number: Any, truth: Any) -> Fraction:
    """number / truth; where one of them is a float, without the last digits that rounding made."""
    exact = Fraction(number) / Fraction(truth)
    simple = exact.limit_denominator(1_000)
    rounded = isinstance(number, float) or isinstance(truth, float)
    return simple if rounded and abs(simple - exact) <= abs(exact) / 10**9 else exact


def plain(number: Any) -> str:
    """A number as text: whole ones in full, others to six digits or one decimal."""
    if abs(number) >= 10**21:
        return "a number of more than 21 digits"
    if number == int(number):
        return f"{int(number):,}"
    return f"{float(number):,.1f}" if abs(number) >= 10**5 else f"{float(number):.6g}"


def shown(value: Any) -> str:
    """A repr on one line, cut at 80 characters."""
    try:
        text = tame(repr(value))
    except Exception:
        text = f"something of type {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def tame(text: str) -> str:
    """Text on one line, without memory addresses, which would differ from run to run."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", " ".join(text.split()))
