"""Exercise 8: settings under which one card serves 64 users at 32K tokens. The limits are made for the game."""

from __future__ import annotations

from kvlib.check.base import Puzzle, Rule
from kvlib.check.ex02 import counted
from kvlib.units import MiB

Settings = dict[str, int]
Broken = tuple[str, str] | None  # the name of the mistake and what to say

USERS, PROMPT, ANSWER = 64, 32_768, 1_024
TOTAL, OUTSIDE, NON_TORCH = 81_152, 6_400, 266  # MiB: the card, what must stay free of the engine, CUDA and libraries
PARAMETERS = 7_615_616_512  # Qwen2.5 7B
LAYERS, KV_HEADS, HEAD_DIM = 28, 4, 128
PEAK = 180 * 1024  # bytes of activation for each token read at once


def _formats(s: Settings) -> Broken:
    """Only formats that exist."""
    if s["weight_bits"] in (4, 8, 16) and s["kv_bits"] in (8, 16):
        return None
    bits = f"weights in {s['weight_bits']} and cache in {s['kv_bits']}"
    return "no such format", f"weights have 16, 8 or 4 bits and the cache 16 or 8; you have {bits}"


def _one_risk(s: Settings) -> Broken:
    """Weights or cache below 16 bits, not both."""
    if s["weight_bits"] == 16 or s["kv_bits"] == 16:
        return None
    return "two risks at a time", f"weights in {s['weight_bits']} and cache in {s['kv_bits']} bits are two risks"


def _outside(s: Settings) -> Broken:
    """Enough of the card stays outside the limit."""
    free = TOTAL * (100 - s["percent"]) // 100
    if free >= OUTSIDE:
        return None
    says = f"{s['percent']} % leave {free:,} MiB outside the limit, and CUDA graphs and others need {OUTSIDE:,}"
    return "the whole card", says


def _answer(s: Settings) -> Broken:
    """A request holds the prompt and the answer."""
    length = s["max_model_len"]
    if length >= PROMPT + ANSWER:
        return None
    if length >= PROMPT:
        says = f"{length:,} tokens hold the {PROMPT:,} of the prompt, but not the {ANSWER:,} of the answer as well"
        return "no room for the answer", says
    return "prompt cut off", f"a request of {length:,} tokens is shorter than the prompt"


def _read(s: Settings) -> Broken:
    """Prompts are read fast enough."""
    if s["batched_tokens"] >= 2_048:
        return None
    return "reading too slow", f"{s['batched_tokens']:,} tokens at once read too slowly: at least 2,048"


def room(s: Settings) -> int:
    """Bytes for the cache; 0 if nothing is left."""
    limit = TOTAL * s["percent"] * MiB // 100
    return max(0, limit - PARAMETERS * s["weight_bits"] // 8 - NON_TORCH * MiB - PEAK * s["batched_tokens"])


def served(s: Settings) -> int:
    """Users that have room for a whole request at the same time."""
    block = counted.block_bytes(LAYERS, KV_HEADS, HEAD_DIM, s["kv_bits"])
    return counted.users_served(room(s), block, s["max_model_len"])


def _enough(s: Settings) -> Broken:
    """All users at the same time; if not, what stands in the way."""
    users = served(s)
    if users >= USERS:
        return None
    says = f"that serves {users} users at the same time, not {USERS}"
    if served(s | {"batched_tokens": 2_048}) >= USERS:
        peak = PEAK * s["batched_tokens"] // MiB
        return "activation too large", f"{says}; reading {s['batched_tokens']:,} tokens at once takes {peak:,} MiB"
    if s["kv_bits"] == 16:
        return "cache in 16 bits", f"{says}; look at the number that every token of every user multiplies"
    if s["max_model_len"] > PROMPT + ANSWER:
        return "requests too long", f"{says}; requests of {s['max_model_len']:,} tokens are longer than they have to be"
    return "card left unused", f"{says}; the engine may use more than {s['percent']} % of the card"


SIXTY_FOUR_USERS = Puzzle(
    "sixty_four_users",
    fields={
        "weight_bits": (1, 32),
        "kv_bits": (1, 32),
        "percent": (1, 100),
        "max_model_len": (1, 131_072),
        "batched_tokens": (1, 131_072),
    },
    rules=(
        Rule("the formats exist", _formats),
        Rule("at most one of weights and cache is below 16 bits", _one_risk),
        Rule(f"at least {OUTSIDE:,} MiB stay outside the limit", _outside),
        Rule("a request holds prompt and answer", _answer),
        Rule("at least 2,048 tokens are read at once", _read),
        Rule(f"{USERS} full requests fit at the same time", _enough),
    ),
)
