"""Exercises 1 and 8: break a rule of thumb about buying; then own, reserve and rent for a day of changing demand."""

from __future__ import annotations

from fractions import Fraction

from kvlib.check.base import Puzzle, Rule
from kvlib.check.ex05 import counted

Design = dict[str, int]
Broken = tuple[str, str] | None  # the name of the mistake and what to say

# ---------------------------------------------------------------- exercise 1: break the rule of thumb

ARTICLE_CARD = {"price_usd": 33_078, "rent_cents": 170, "watts": 1_730, "usd_per_mwh": 86}


def _one_change(design: Design) -> Broken:
    """Exactly one number differs from the article's card."""
    changed = [name for name in ARTICLE_CARD if design[name] != ARTICLE_CARD[name]]
    if not changed:
        return "nothing changed", "this is the article's card as it was; there the rule is 9 % off: change one number"
    if len(changed) > 1:
        return "more than one change", f"you changed {', '.join(changed)}: one change is enough"
    return None


def _power(design: Design) -> Fraction:
    """USD of an hour of power: kW times USD per kWh."""
    return Fraction(design["watts"], 1_000) * Fraction(design["usd_per_mwh"], 1_000)


def _ever_pays(design: Design) -> Broken:
    """An owned hour saves something: the rent is above the power."""
    rent, power = Fraction(design["rent_cents"], 100), _power(design)
    if rent > power:
        return None
    says = f"an hour of power costs {float(power):.2f} USD and the rent {float(rent):.2f}: buying never pays"
    return "buying never pays", f"{says}, and the rule should be off, not pointless"


def _far_off(design: Design) -> Broken:
    """The hours until buying pays are twice what the rule says, or more."""
    rent, saved = Fraction(design["rent_cents"], 100), Fraction(design["rent_cents"], 100) - _power(design)
    said, really = design["price_usd"] / rent, design["price_usd"] / saved
    if really >= 2 * said:
        return None
    return (
        "still nearly right",
        f"the rule says {float(said):,.0f} hours and it takes {float(really):,.0f}: not twice as many",
    )


BROKEN_RULE = Puzzle(
    "broken_rule",
    fields={"price_usd": (1, 1_000_000), "rent_cents": (1, 10_000), "watts": (1, 100_000), "usd_per_mwh": (1, 10_000)},
    rules=(
        Rule("one number of the article's card is changed", _one_change),
        Rule("buying pays at some time", _ever_pays),
        Rule("it takes at least twice the hours that the rule says", _far_off),
    ),
)

# ---------------------------------------------------------------- exercise 8: a fleet for a day

TARGET_USD = 94_270


def _within_budget(design: Design) -> Broken:
    """What is bought is paid on the first day."""
    paid = design["owned"] * counted.NODE_USD
    if paid <= counted.BUDGET_USD:
        return None
    says = f"{design['owned']} nodes cost {paid:,} USD on the first day, and there are {counted.BUDGET_USD:,}"
    return "budget broken", says


def _reason(design: Design) -> tuple[str, str]:
    """What the design wastes most."""
    kept, most = design["owned"] + design["reserved"], counted.BUDGET_USD // counted.NODE_USD
    average, peak = round(sum(counted.DEMAND) / len(counted.DEMAND)), max(counted.DEMAND)
    if kept == 0:
        return "everything by the hour", "you rent everything by the hour, which is dearest for what runs day and night"
    if kept >= peak:
        return "built for the peak", f"{kept} nodes are there all day for a peak of {peak}; most of them idle at night"
    if abs(kept - average) <= 2:
        return (
            "built for the average",
            f"you covered the average of {average}; what counts is how many hours a node works",
        )
    if kept <= min(counted.DEMAND):
        return "built for the night", "you covered what runs all day; a node that idles for an hour or two pays as well"
    if design["owned"] < most and design["reserved"]:
        return "reserved for owned", f"an owned hour is cheaper than a reserved one, and the budget buys {most} nodes"
    return "", "look at the node that you added last: in how many of the 24 hours does it work?"


def _cheap(design: Design) -> Broken:
    """The day costs no more than the target."""
    usd = Fraction(counted.fleet_cents(design), 100)
    if usd <= TARGET_USD:
        return None
    name, why = _reason(design)
    says = f"the day costs {float(usd):,.0f} USD, {float(usd) - TARGET_USD:,.0f} too many; {why}"
    return name or "too dear", says


FLEET = Puzzle(
    "fleet",
    fields={"owned": (0, 1_000), "reserved": (0, 1_000)},
    rules=(
        Rule(f"the purchase stays within {counted.BUDGET_USD:,} USD", _within_budget),
        Rule(f"the day costs at most {TARGET_USD:,} USD", _cheap),
    ),
)
