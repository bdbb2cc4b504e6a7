"""Exercises 1 and 9: a step that batching does not make cheaper; then 256 readers who want forty tokens a second."""

from __future__ import annotations

from kvlib.check.base import Puzzle, Rule
from kvlib.check.ex04.counted import step_bytes
from kvlib.units import GB, size

Design = dict[str, int]
Broken = tuple[str, str] | None  # the name of the mistake and what to say

# ---------------------------------------------------------------- exercise 1: break the batching

LLAMA_FOR_ONE = {"weights_gb": 15, "kv_per_token": 131_072, "context": 2_048, "batch": 1}
NEARLY_TWICE = 1.9


def _one_change(design: Design) -> Broken:
    """Exactly one number differs from Llama 3.1 8B for one user."""
    changed = [name for name in LLAMA_FOR_ONE if design[name] != LLAMA_FOR_ONE[name]]
    if not changed:
        return (
            "nothing changed",
            "this is Llama 3.1 8B as it was; there the second user is nearly free: change one number",
        )
    if len(changed) > 1:
        return "more than one change", f"you changed {', '.join(changed)}: one change is enough"
    return None


def _still_cheap(design: Design) -> Broken:
    """A step of twice the batch reads nearly twice the bytes."""
    weights, kv, context, batch = design["weights_gb"] * GB, design["kv_per_token"], design["context"], design["batch"]
    once, twice = (step_bytes(weights, kv, context, n) for n in (batch, 2 * batch))
    if twice >= NEARLY_TWICE * once:
        return None
    says = f"a batch of {batch:,} reads {size(once)}, of {2 * batch:,} {size(twice)}: {twice / once:.2f} times as much"
    return "still shared", says


BROKEN_BATCHING = Puzzle(
    "broken_batching",
    fields={"weights_gb": (1, 2_000), "kv_per_token": (1, 5_000_000), "context": (1, 4_000_000), "batch": (1, 4_096)},
    rules=(
        Rule("one number of Llama 3.1 8B for one user is changed", _one_change),
        Rule(f"twice the batch reads at least {NEARLY_TWICE} times as much", _still_cheap),
    ),
)

# ---------------------------------------------------------------- exercise 9: forty tokens a second

TARGET = 12  # cards
USERS, STEP_MS, NODE, HEADS, LAYERS = 256, 25, 8, 64, 80
LAYER = 855_638_016  # bytes in fp8 of one layer of Llama 3.1 70B, norms left out
END = 1_050_673_152  # bytes in fp8 of the embedding, and of the output head
CACHE = 1_342_177_280  # bytes in fp8 of one user's 8,192 tokens
ROOM = 71_200_000_000  # bytes on an H100 for weights and caches, as in exercise 8 of lesson 03
SPEED = 2_010_000_000_000  # bytes/s that an engine gets of an H100: 60 %


def cards(design: Design) -> int:
    """Cards of the layout."""
    return design["tp"] * design["pp"] * design["dp"]


def fullest_bytes(design: Design) -> float:
    """Bytes on a card of the fullest stage: its layers with every user's cache for them, and the embedding."""
    layers, users = -(-LAYERS // design["pp"]), -(-USERS // design["dp"])
    ends = END * (2 if design["pp"] == 1 else 1)
    return (layers * LAYER + ends + users * CACHE * layers / LAYERS) / design["tp"]


def step_ms(design: Design) -> float:
    """Milliseconds until a token has gone through all stages; at each stage a part of the users is at work."""
    users = -(-USERS // design["dp"])
    part = -(-users // design["pp"])
    return 1000 * (LAYERS * LAYER + END + part * CACHE) / design["tp"] / SPEED


def _layout(design: Design) -> Broken:
    """TP stays inside a node and divides the heads; stages have layers."""
    if design["tp"] > NODE:
        return "TP beyond the node", f"TP {design['tp']} is larger than a node of {NODE} cards that NVLink joins"
    if HEADS % design["tp"]:
        return "TP does not divide the heads", f"TP {design['tp']} does not divide {HEADS} query heads"
    return None


def _fits(design: Design) -> Broken:
    """The fullest card has room for its weights and caches."""
    held = fullest_bytes(design)
    if held <= ROOM:
        return None
    return "does not fit", f"the fullest card would hold {size(round(held))} and has room for {size(ROOM)}"


def _fast(design: Design) -> Broken:
    """A token takes no longer than promised."""
    found = step_ms(design)
    if found <= STEP_MS:
        return None
    says = f"a token takes {found:.1f} ms, {STEP_MS} are promised"
    weights = 1000 * (LAYERS * LAYER + END) / design["tp"] / SPEED
    if weights > STEP_MS:
        why = f"at TP {design['tp']} the weights alone take {weights:.1f}, however many stages or copies there are"
        return "TP too small", f"{says}; {why}"
    return (
        "caches take too long",
        f"{says}, of which the caches take {found - weights:.1f}: fewer users on each copy or stage",
    )


def _few_cards(design: Design) -> Broken:
    """No more cards than the target."""
    if cards(design) <= TARGET:
        return None
    over = cards(design) - TARGET
    return "too many cards", f"it is fast enough, on {cards(design)} cards: {over} more than needed"


FORTY_TOKENS = Puzzle(
    "forty_tokens",
    fields={"tp": (1, 64), "pp": (1, LAYERS), "dp": (1, USERS)},
    rules=(
        Rule(f"TP stays inside a node of {NODE} cards and divides the {HEADS} query heads", _layout),
        Rule("weights and caches fit on the fullest card", _fits),
        Rule(f"each of {USERS} users gets a token every {STEP_MS} ms", _fast),
        Rule(f"at most {TARGET} cards", _few_cards),
    ),
)
