"""Exercises 1 and 8: break the rule that more GPUs mean less on each; then lay out a cluster for 64 users."""

from __future__ import annotations

from collections.abc import Callable

from kvlib.check.base import Puzzle, Rule
from kvlib.check.ex03 import counted
from kvlib.units import size

Design = dict[str, int]
Broken = tuple[str, str] | None  # the name of the mistake and what to say


def _must(name: str, holds: Callable[[Design], bool], says: str) -> Callable[[Design], Broken]:
    """What `Rule.broken` needs: nothing where `holds(design)`, else the name and `says` with the design filled in."""
    return lambda design: None if holds(design) else (name, says.format(**design))


# ---------------------------------------------------------------- exercise 1: break the halving

LLAMA_ON_TWO = {"query_heads": 32, "kv_heads": 8, "head_dim": 128, "tp": 2}


def _one_change(design: Design) -> Broken:
    """Exactly one number differs from Llama 3.1 8B on two GPUs."""
    changed = [name for name in LLAMA_ON_TWO if design[name] != LLAMA_ON_TWO[name]]
    if not changed:
        return (
            "nothing changed",
            "this is Llama 3.1 8B on 2 GPUs as it was; there the rule holds: change one number",
        )
    if len(changed) > 1:
        return "more than one change", f"you changed {', '.join(changed)}: one change is enough"
    return None


def _engine_starts(design: Design) -> Broken:
    """Both numbers of GPUs divide the query heads, and the KV heads divide them or are divided by them."""
    for tp in (design["tp"], 2 * design["tp"]):
        if design["query_heads"] % tp:
            return "TP does not divide the heads", f"{tp} GPUs cannot share {design['query_heads']} query heads evenly"
        if design["kv_heads"] % tp and tp % design["kv_heads"]:
            return "TP does not divide the heads", f"{tp} GPUs cannot share {design['kv_heads']} KV heads evenly"
    return None


def _not_halved(design: Design) -> Broken:
    """One token takes as much on each GPU of the doubled group as before."""
    before, after = (
        counted.token_on_gpu(1, design["kv_heads"], design["head_dim"], tp) for tp in (design["tp"], 2 * design["tp"])
    )
    if after == before:
        return None
    says = (
        f"a token takes {before:,} bytes per layer on each of {design['tp']} GPUs, {after:,} on each of twice as many"
    )
    return "still halved", says


BROKEN_HALVING = Puzzle(
    "broken_halving",
    fields={"query_heads": (1, 1_024), "kv_heads": (1, 1_024), "head_dim": (1, 1_024), "tp": (1, 512)},
    rules=(
        Rule("one number of Llama 3.1 8B on 2 GPUs is changed", _one_change),
        Rule(
            "the KV heads make equal groups of query heads",
            _must(
                "unequal groups",
                lambda design: design["query_heads"] % design["kv_heads"] == 0,
                "{query_heads} query heads cannot share {kv_heads} KV heads in equal groups",
            ),
        ),
        Rule("an engine starts on that many GPUs, and on twice as many", _engine_starts),
        Rule("the cache on each GPU does not shrink", _not_halved),
    ),
)

# ---------------------------------------------------------------- exercise 8: 64 users

TARGET = 10


def _cards(design: Design) -> int:
    """Cards of the layout."""
    return design["tp"] * design["pp"] * design["dp"]


def _reason(design: Design) -> tuple[str, str]:
    """What a layout wastes most: copies of KV heads, or copies of the weights."""
    if design["tp"] > counted.KV_HEADS:
        return "KV heads copied", (
            f"at TP {design['tp']} each card keeps one of {counted.KV_HEADS} KV heads, so half of all cache is copies"
        )
    if design["dp"] > 1:
        return (
            "weights copied",
            f"DP {design['dp']} keeps the weights {design['dp']} times, where users could share them",
        )
    return "", ""


def _fits(design: Design) -> Broken:
    """The fullest card has room for its weights and its caches."""
    held, room = counted.card_bytes(design), counted.card_room()
    if held <= room:
        return None
    name, why = _reason(design)
    says = f"the fullest card would hold {size(held)} and has room for {size(room)}"
    return name or "does not fit", f"{says}; {why}" if why else says


def _few_cards(design: Design) -> Broken:
    """No more cards than the target."""
    if _cards(design) <= TARGET:
        return None
    name, why = _reason(design)
    says = f"it fits, on {_cards(design)} cards: {_cards(design) - TARGET} more than needed"
    return name or "too many cards", f"{says}; {why}" if why else says


SIXTY_FOUR_USERS = Puzzle(
    "sixty_four_users",
    fields={"tp": (1, 64), "pp": (1, counted.LAYERS), "dp": (1, counted.USERS)},
    rules=(
        Rule(
            f"TP stays inside a node of {counted.NODE} cards",
            _must(
                "TP beyond the node",
                lambda design: design["tp"] <= counted.NODE,
                f"TP {{tp}} is larger than a node of {counted.NODE} cards that NVLink joins",
            ),
        ),
        Rule(
            f"TP divides the {counted.QUERY_HEADS} query heads",
            _must(
                "TP does not divide the heads",
                lambda design: counted.QUERY_HEADS % design["tp"] == 0,
                f"TP {{tp}} does not divide {counted.QUERY_HEADS} query heads",
            ),
        ),
        Rule("weights and caches fit on the fullest card", _fits),
        Rule(f"it takes at most {TARGET} cards", _few_cards),
    ),
)
