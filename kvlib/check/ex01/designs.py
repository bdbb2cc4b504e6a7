"""Exercises 1 and 8: the learner designs a model. One has to break a rule of thumb, one has to meet a byte target."""

from __future__ import annotations

from collections.abc import Callable

from kvlib.check.base import Puzzle, Rule
from kvlib.check.ex01 import counted
from kvlib.units import size

Design = dict[str, int]
Broken = tuple[str, str] | None  # the name of the mistake and what to say

# ---------------------------------------------------------------- exercise 1: break the rule of thumb

LLAMA_2_7B = {"layers": 32, "hidden_size": 4096, "query_heads": 32, "kv_heads": 32, "head_dim": 128}


def _one_change(design: Design) -> Broken:
    """Exactly one number differs from Llama 2 7B."""
    changed = [name for name in LLAMA_2_7B if design[name] != LLAMA_2_7B[name]]
    if not changed:
        return "nothing changed", "this is Llama 2 7B as it was, and there the rule is exact: change one number"
    if len(changed) > 1:
        return "more than one change", f"you changed {', '.join(changed)}: one change is enough"
    return None


def _equal_groups(design: Design) -> Broken:
    """Every KV head serves the same number of query heads."""
    if design["query_heads"] % design["kv_heads"]:
        says = "{query_heads} query heads cannot share {kv_heads} KV heads in equal groups"
        return "unequal groups", says.format(**design)
    return None


def _eight_times(design: Design) -> Broken:
    """The rule of thumb counts at least eight numbers for each one that is kept."""
    rule = 2 * design["layers"] * design["hidden_size"]
    truth = counted.numbers_per_token(design["layers"], design["kv_heads"], design["head_dim"])
    if rule >= 8 * truth:
        return None
    says = f"the rule counts {rule:,} numbers per token and the model keeps {truth:,}: not yet eight times too many"
    if design["kv_heads"] == 8:
        return "group size for group count", f"{says}; 8 KV heads make groups of 4, you want groups of 8"
    return "not broken enough", says


BROKEN_RULE = Puzzle(
    "broken_rule",
    fields={name: (1, 100_000 if name == "hidden_size" else 1_000) for name in LLAMA_2_7B},
    rules=(
        Rule("one number of Llama 2 7B is changed", _one_change),
        Rule("the KV heads make equal groups of query heads", _equal_groups),
        Rule("the rule of thumb is at least eight times too high", _eight_times),
    ),
)

# ---------------------------------------------------------------- exercise 8: a million tokens

TOKENS, TARGET, QUERY_HEADS = 1_000_000, 5_135_728_640, 32


def _must(name: str, holds: Callable[[Design], bool], says: str) -> Callable[[Design], Broken]:
    """What `Rule.broken` needs: nothing where `holds(design)`, else the name and `says` with the design filled in."""
    return lambda design: None if holds(design) else (name, says.format(**design))


def _within_target(design: Design) -> Broken:
    """The cache is at most `TARGET` bytes; if not, say whether full or sliding layers hold most of it."""
    total = counted.design_bytes(design, TOKENS)
    if total <= TARGET:
        return None
    over = f"{size(total)} is {total - TARGET:,} bytes above the target"
    sliding = counted.design_bytes(design | {"full_every": design["layers"] + 1}, TOKENS)
    if 2 * sliding > total:
        return "windows too long", f"{over}, and most of it is in the sliding layers"
    full = design["layers"] // design["full_every"]
    if design["full_every"] > 4:
        return (
            "the fewest full layers",
            f"{over}; you have only {full} full layers, but their numbers take two bytes each",
        )
    return "above the target", f"{over}, and most of it is in the {full} full layers"


MILLION_TOKENS = Puzzle(
    "million_tokens",
    fields={
        "layers": (1, 200),
        "kv_heads": (1, QUERY_HEADS),
        "head_dim": (1, 1_024),
        "full_every": (1, 200),
        "window": (1, TOKENS),
        "bits": (1, 16),
    },
    rules=(
        Rule(
            f"the KV heads divide the {QUERY_HEADS} query heads",
            _must(
                "unequal groups",
                lambda design: QUERY_HEADS % design["kv_heads"] == 0,
                f"{QUERY_HEADS} query heads cannot share {{kv_heads}} KV heads in equal groups",
            ),
        ),
        Rule(
            "head_dim is 64, 128 or 256",
            _must(
                "head_dim out of the list",
                lambda design: design["head_dim"] in (64, 128, 256),
                "head_dim must be 64, 128 or 256; it is {head_dim}",
            ),
        ),
        Rule(
            "layers x head_dim is at least 5,120",
            _must(
                "too small a model",
                lambda design: design["layers"] * design["head_dim"] >= 5_120,
                "{layers} layers with heads of {head_dim} are too small a model: layers x head_dim is below 5,120",
            ),
        ),
        Rule(
            "kv_heads x head_dim is at least 512",
            _must(
                "too little room to remember",
                lambda design: design["kv_heads"] * design["head_dim"] >= 512,
                "{kv_heads} KV heads of {head_dim} leave too little room: kv_heads x head_dim is below 512",
            ),
        ),
        Rule(
            "at least 1 layer in 6 is full",
            _must(
                "too few full layers",
                lambda design: design["full_every"] <= min(6, design["layers"]),
                "1 full layer in {full_every}, with {layers} layers, is too rare: at least 1 in 6",
            ),
        ),
        Rule(
            "the window is at least 1,024 tokens",
            _must(
                "window too short",
                lambda design: design["window"] >= 1_024,
                "a window of {window:,} tokens is below 1,024",
            ),
        ),
        Rule(
            "numbers have 16 bits, or 8 where at least 1 layer in 4 is full",
            _must(
                "two risks at a time",
                lambda design: design["bits"] == 16 or (design["bits"] == 8 and design["full_every"] <= 4),
                "{bits} bits with 1 full layer in {full_every}: only 16 bits, or 8 with at least 1 layer in 4 full",
            ),
        ),
        Rule(f"{TOKENS:,} tokens take at most {TARGET:,} bytes", _within_target),
    ),
)
