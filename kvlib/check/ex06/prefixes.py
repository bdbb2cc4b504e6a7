"""Exercises 2 and 3: what two prompts share, and how much of it an engine can use."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kvlib.check.base import Case, Question, Slip
from kvlib.check.ex06 import counted
from kvlib.check.ex06.counted import drawn

Parts = Sequence[tuple[str, int]]

# ---------------------------------------------------------------- exercise 2: what two prompts share

RULES, TOOLS, REPORT = ("rules", 1_200), ("tools", 9_000), ("report", 40_000)


def _drawn_prompts(seed: int) -> Case:
    """Two prompts of eight parts that differ in two of them: in the third, fourth or fifth, and in the last."""
    place, *sizes = drawn(seed, (2, 4), *[(50, 5_000)] * 8)
    first = [(f"part {number}", size) for number, size in enumerate(sizes, 1)]
    second = [
        (f"other {name}", size) if number in (place, 7) else (name, size) for number, (name, size) in enumerate(first)
    ]
    return Case("eight parts, their sizes drawn at random", {"first": first, "second": second})


def _leading(first: Parts, second: Parts) -> int:
    """How many parts at the beginning are the same."""
    number = 0
    while number < min(len(first), len(second)) and first[number] == second[number]:
        number += 1
    return number


def _tokens(parts: Parts) -> int:
    return sum(tokens for _, tokens in parts)


SHARED_TOKENS = Question(
    "shared_tokens",
    "tokens",
    cases=(
        Case(
            "the next question of a chat",
            {
                "first": [RULES, REPORT, ("question 1", 80)],
                "second": [RULES, REPORT, ("question 1", 80), ("answer 1", 300), ("question 2", 60)],
            },
        ),
        Case(
            "another user's report",
            {
                "first": [RULES, TOOLS, ("report of Ann", 40_000), ("question", 80)],
                "second": [RULES, TOOLS, ("report of Ben", 38_000), ("question", 80)],
            },
        ),
        Case(
            "the hour in front",
            {
                "first": [("it is 9 o'clock", 20), RULES, REPORT, ("question 1", 80)],
                "second": [("it is 10 o'clock", 20), RULES, REPORT, ("question 2", 60)],
            },
        ),
        Case(
            "a tool exchanged",
            {
                "first": [RULES, TOOLS, REPORT, ("question 1", 80)],
                "second": [RULES, ("tools, new version", 9_100), REPORT, ("question 1", 80)],
            },
        ),
        _drawn_prompts(2),
    ),
    truth=counted.shared_tokens,
    slips=(
        Slip(
            "prefix changed at the front",
            lambda first, second: _tokens([part for part in second if part in first]),
            "you counted parts that stand after the first difference; their keys and values depend on all before them",
        ),
        Slip(
            "prefix changed at the front",
            lambda first, second: _tokens([a for a, b in zip(first, second, strict=False) if a == b]),
            "you counted parts that stand after the first difference; their keys and values depend on all before them",
        ),
        Slip(
            "the whole earlier prompt",
            lambda first, second: _tokens(first),
            "that is all of the first prompt; how far does the second begin like it?",
        ),
        Slip(
            "the whole new prompt",
            lambda first, second: _tokens(second),
            "that is all of the second prompt; how far does it begin like the first?",
        ),
        Slip(
            "what is new",
            lambda first, second: _tokens(second[_leading(first, second) :]),
            "that is the part of the second prompt that is new; asked is the other one",
        ),
        Slip(
            "one part too many",
            lambda first, second: _tokens(second[: _leading(first, second) + 1]),
            "you counted the first part that differs as well",
        ),
        Slip(
            "the first part only",
            lambda first, second: _tokens(second[: min(1, _leading(first, second))]),
            "you stopped after the first part; how far do they go on alike?",
        ),
        Slip(
            "parts for tokens",
            _leading,
            "these are parts; each has its own number of tokens",
        ),
    ),
)

# ---------------------------------------------------------------- exercise 3: whole blocks


def _reuse(label: str, shared: int, prompt: int, block: int) -> Case:
    """A prompt that begins like an earlier one, for exercise 3."""
    return Case(label, {"shared": shared, "prompt": prompt, "block": block})


def _drawn_reuse(seed: int) -> Case:
    """A prompt of random length; the block is a multiple of 16 and larger than usual."""
    shared, new, sixteens = drawn(seed, (20_000, 40_000), (1, 5_000), (20, 60))
    block = 16 * sixteens
    return _reuse(f"drawn at random ({shared:,} shared, blocks of {block})", shared, shared + new, block)


def _usable(shared: int, prompt: int) -> int:
    """What is shared, less the last token of the prompt."""
    return min(shared, prompt - 1)


Rounding = Callable[[int, int], int]


def _blocks(rounding: Rounding) -> Callable[[int, int, int], int]:
    """The answer with another way to round to blocks."""
    return lambda shared, prompt, block: block * rounding(_usable(shared, prompt), block)


PARTIAL = "the last block is not full, and an engine finds whole blocks of {block:,} tokens only"

HIT_TOKENS = Question(
    "hit_tokens",
    "tokens",
    cases=(
        _reuse("Llama 3.1 8B, 1,005 shared tokens", 1_005, 1_100, 16),
        _reuse("Qwen3.5 27B in bf16, 1,500", 1_500, 1_600, 784),
        _reuse("the same with the cache in fp8", 1_500, 1_600, 1_568),
        _reuse("Nemotron 3 Nano, a long chat", 48_000, 50_000, 2_096),
        _reuse("Llama 3.1 8B, the same 1,024 tokens again", 1_024, 1_024, 16),
        _drawn_reuse(3),
    ),
    truth=counted.hit_tokens,
    slips=(
        Slip("a partial block counted as a hit", lambda shared, prompt, block: shared, PARTIAL),
        Slip("a partial block counted as a hit", lambda shared, prompt, block: _usable(shared, prompt), PARTIAL),
        Slip(
            "rounded up",
            _blocks(lambda tokens, block: -(-tokens // block)),
            "you rounded up to a full block, and its last tokens are not the earlier prompt's",
        ),
        Slip(
            "rounded up",
            lambda shared, prompt, block: block * -(-shared // block),
            "you rounded up to a full block, and its last tokens are not the earlier prompt's",
        ),
        Slip(
            "rounded to the nearest",
            _blocks(lambda tokens, block: round(tokens / block)),
            "you rounded to the nearest block; a block that is nearly full is not full",
        ),
        Slip(
            "nothing left to compute",
            lambda shared, prompt, block: shared // block * block,
            "that would leave nothing to compute; the last token has to be, or there is no answer",
        ),
        Slip(
            "the prompt for what is shared",
            lambda shared, prompt, block: (prompt - 1) // block * block,
            "you cut the whole prompt into blocks; only {shared:,} tokens of it were there before",
        ),
        Slip(
            "blocks for tokens",
            lambda shared, prompt, block: _usable(shared, prompt) // block,
            "these are blocks; a block has {block:,} tokens",
        ),
        Slip(
            "computed for found",
            lambda shared, prompt, block: prompt - _usable(shared, prompt) // block * block,
            "that is what has to be computed; asked is what is found",
        ),
    ),
)
