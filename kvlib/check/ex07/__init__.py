"""Checks of exercise 07, context drift: each takes the learner's function and gives a `Result`.

Whatever asks the model is imported when it is first needed, so that the checks of other pages load no numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvlib.check.base import Result
from kvlib.check.ex07.paid import USD_PER_RIGHT
from kvlib.check.ex07.scores import EFFECTIVE_LENGTH, WILSON_HIGH
from kvlib.check.ex07.shares import NEEDLE_MASS, SHARE_AFTER

if TYPE_CHECKING:
    from kvlib.check.ex07.maps import Map
    from kvlib.check.ex07.prompts import Desk


def lost_needle(function: Any) -> Result:
    """Exercise 1: change one number of a prompt so that the model loses its needle half of the time."""
    from kvlib.check.ex07.prompts import LOST_NEEDLE

    return LOST_NEEDLE.check(function)


def effective_length(function: Any) -> Result:
    """Exercise 2: `function(accuracy)`, tokens up to which a model keeps 85 % of what it can."""
    return EFFECTIVE_LENGTH.check(function)


def wilson_high(function: Any) -> Result:
    """Exercise 3: `function(right, n)`, the upper end of a rate's 95 % interval, as a share."""
    return WILSON_HIGH.check(function)


def needle_mass(function: Any) -> Result:
    """Exercise 4: `function(tokens, mass, longer)`, the needle's share of the attention in a longer prompt."""
    return NEEDLE_MASS.check(function)


def share_after(function: Any) -> Result:
    """Exercise 5: `function(share, gone)`, the needle's share after sentences with these shares were deleted."""
    return SHARE_AFTER.check(function)


def retrieve(function: Any) -> Result:
    """Exercise 6: `function(question, sentences, best)`, places of the sentences that are worth sending."""
    from kvlib.check.ex07.retriever import RETRIEVE

    return RETRIEVE.check(function)


def cheapest_context(function: Any) -> Result:
    """Exercise 7: places of the fewest sentences from which three questions are answered right."""
    from kvlib.check.ex07.prompts import CHEAPEST_CONTEXT

    return CHEAPEST_CONTEXT.check(function)


def usd_per_right(function: Any) -> Result:
    """Exercise 8: `function(input_tokens, output_tokens, right, n, usd_input, usd_output)`, USD of a right answer."""
    return USD_PER_RIGHT.check(function)


def map_claims(function: Any) -> Result:
    """Exercise 9: a verdict on each claim that is made from a map of depth and length."""
    from kvlib.check.ex07.maps import MAP_CLAIMS

    return MAP_CLAIMS.check(function)


def three_questions() -> Desk:
    """The context of exercise 7, its three questions, and what the model answers to them."""
    from kvlib.check.ex07.prompts import desk

    return desk()


def two_maps() -> Map:
    """The map of exercise 9, from one trial a cell and from twenty."""
    from kvlib.check.ex07.maps import drift_map

    return drift_map()


def claims() -> str:
    """The claims of exercise 9 and the verdicts to choose from, as text."""
    from kvlib.check.ex07.maps import listed

    return listed()
