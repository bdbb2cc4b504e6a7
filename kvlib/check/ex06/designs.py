"""Exercises 1 and 9: a session that a cache makes dearer; then six users' prompts in the right order."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from functools import cache

from kvlib.check.base import Puzzle, Rule
from kvlib.prefix import session_bill
from kvlib.prices import price
from kvlib.sessions import Request, conversation, stamped

Design = dict[str, int]
Broken = tuple[str, str] | None  # the name of the mistake and what to say

MODEL, DAY = "claude-sonnet-4-5", date(2025, 10, 21)

# ---------------------------------------------------------------- exercise 1: break the saving

GOOD_SESSION = {"document": 50_000, "questions": 10, "pause_seconds": 60, "stamp": 0}
QUESTION, ANSWER, MINIMUM = 100, 300, 1_024


def session_usd(design: Design) -> tuple[Decimal, Decimal]:
    """USD of the input and output of the session without a cache, and with one of five minutes."""
    pause, many = design["pause_seconds"], design["questions"]
    rows = conversation(design["document"], QUESTION, ANSWER, many, pause, mark="document")
    rows = stamped(rows, design["stamp"]) if design["stamp"] else rows
    listed = price(MODEL, DAY)
    return session_bill(rows, listed).usd, session_bill(rows, listed, "anthropic-5m").usd


def _one_change(design: Design) -> Broken:
    """Exactly one number differs from the session of the page."""
    changed = [name for name in GOOD_SESSION if design[name] != GOOD_SESSION[name]]
    if not changed:
        return "nothing changed", "this is the session as it was; there the cache saves money: change one number"
    if len(changed) > 1:
        return "more than one change", f"you changed {', '.join(changed)}: one change is enough"
    return None


def _dearer(design: Design) -> Broken:
    """The cache costs more than it saves."""
    without, cached = session_usd(design)
    if cached > without:
        return None
    if cached == without:
        says = f"{design['document']:,} tokens are too few to be cached (at least {MINIMUM:,}): both bills are the same"
        return "below the minimum", f"{says}, and the cache should lose"
    says = f"{float(without):.2f} USD without the cache, {float(cached):.2f} with it"
    return "still a saving", f"{says}: something still reads what was written"


LOSING_CACHE = Puzzle(
    "losing_cache",
    fields={"document": (1, 150_000), "questions": (1, 100), "pause_seconds": (1, 86_400), "stamp": (0, 1_000)},
    rules=(
        Rule("one number of the session is changed", _one_change),
        Rule("the session costs more with the cache than without", _dearer),
    ),
)

# ---------------------------------------------------------------- exercise 9: a prompt in order

SIZES = {"rules": 3_000, "tools": 9_000, "profile": 400, "report": 40_000, "clock": 20, "question": 100}
COMMON, PERSONAL, FRESH = ("rules", "tools"), ("profile", "report"), ("clock", "question")
USERS, ASKS, PAUSE = 6, 5, 480  # each user asks every eight minutes; the users take turns
LIVES = {5: "anthropic-5m", 60: "anthropic-1h"}
TARGET = Decimal("1.95")  # USD


def order(design: Design) -> tuple[str, ...]:
    """The parts by their places."""
    return tuple(sorted(SIZES, key=lambda part: design[part]))


@cache
def morning_usd(parts: tuple[str, ...], minutes: int | None) -> Decimal:
    """USD of the input of all requests, with a mark after each part that is sent more than once; None: no cache."""
    rows = []
    for ask in range(ASKS):
        for user in range(USERS):
            whose = dict.fromkeys(COMMON, 0) | dict.fromkeys(PERSONAL, user) | dict.fromkeys(FRESH, ask * USERS + user)
            sent = tuple(((part, whose[part]), SIZES[part]) for part in parts)
            marks = tuple(place for place, part in enumerate(parts, 1) if part not in FRESH)
            rows.append(Request(ask * PAUSE + user * PAUSE // USERS, sent, marks=marks))
    return session_bill(rows, price(MODEL, DAY), LIVES[minutes] if minutes else None).usd


def _places(design: Design) -> Broken:
    """Every part has a place of its own, and the life is one that is sold."""
    taken = [design[part] for part in SIZES]
    if len(set(taken)) < len(taken):
        twice = next(place for place in taken if taken.count(place) > 1)
        return "two parts in one place", f"two parts stand in place {twice}; each part needs a place of its own"
    if design["minutes"] not in LIVES:
        return "no such life", f"a cache of {design['minutes']} minutes is not sold: 5 or 60"
    return None


def _reason(design: Design) -> tuple[str, str]:
    """What costs most in this design, without saying where the part belongs."""
    parts = order(design)
    first = parts[0]
    if first in FRESH:
        says = f"the {first} is new in each request, and nothing that stands after it is ever found"
        return "prefix changed at the front", says
    if early := [part for part in parts[:-2] if part in FRESH]:
        after = next(part for part in parts[parts.index(early[0]) :] if part not in FRESH)
        return (
            "prefix changed in the middle",
            f"the {early[0]} is new in each request; what stands after it ({after}) is never found",
        )
    if early := [part for part in parts[:2] if part in PERSONAL]:
        after = next(part for part in COMMON if design[part] > design[early[0]])
        says = (
            f"the {early[0]} is one user's; what stands after it ({after}) is written again for each of {USERS} users"
        )
        return "one user before all users", says
    return "life too short", f"a user comes back after {PAUSE // 60} minutes; what is still there by then?"


def _cheap(design: Design) -> Broken:
    """The morning costs no more than the target."""
    parts = order(design)
    usd = morning_usd(parts, design["minutes"])
    if usd <= TARGET:
        return None
    name, why = _reason(design)
    without = morning_usd(parts, None)
    return name, f"{float(usd):.2f} USD, and {float(without):.2f} without any cache; {why}"


PROMPT_ORDER = Puzzle(
    "prompt_order",
    fields=dict.fromkeys(SIZES, (1, len(SIZES))) | {"minutes": (1, 1_440)},
    rules=(
        Rule("each part has its place, and the life is one that is sold", _places),
        Rule(f"the morning costs at most {TARGET} USD", _cheap),
    ),
)
