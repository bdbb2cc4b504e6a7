"""Exercise 9: a map of depth and length, measured twice, and what may be claimed from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from kvlib.check.base import Puzzle, Rule
from kvlib.lab.depth import heatmap
from kvlib.lab.score import wilson
from kvlib.lab.tinylm import load
from kvlib.lab.trials import Arm

Design = dict[str, int]
Cell = tuple[int, float]  # tokens and depth
Broken = tuple[str, str] | None  # the name of the mistake and what to say

SCHEME = "alibi"  # a model that pays a tax on distance: its map has something to read
LENGTHS, DEPTHS, TRIALS = (256, 512, 1_024, 2_048, 4_096), (0.0, 0.25, 0.5, 0.75, 1.0), 20
NOISE = Arm("10 % facts", facts=0.1)
DRAWS = 5
SUPPORTED, CONTRADICTED, TOO_FEW, FULL_OR_EMPTY, ELSEWHERE = range(1, 6)
VERDICTS = {
    SUPPORTED: "the map supports it",
    CONTRADICTED: "the map contradicts it",
    TOO_FEW: "too few trials: it could be luck",
    FULL_OR_EMPTY: "cells at the ceiling or the floor: a difference could not show",
    ELSEWHERE: "this map does not ask that question",
}


@dataclass(frozen=True)
class Claim:
    """A sentence about the map, the verdict on it, the name of the usual mistake, and what to say about it."""

    text: str
    verdict: int
    mistake: str
    says: str


@dataclass(frozen=True)
class Map:
    """Needles found in every cell: in twenty trials, and in one of them."""

    many: dict[Cell, int]
    one: dict[Cell, int]

    def table(self, found: dict[Cell, int], n: int) -> str:
        """One of the two maps as text, depth downwards."""
        head = "".join(f"{tokens:>8,}" for tokens in LENGTHS)
        lines = [f"found of {n:<6}{head} tokens"]
        for depth in DEPTHS:
            lines.append(
                f"depth {_percent(depth):>5}    " + "".join(f"{found[tokens, depth]:>8}" for tokens in LENGTHS)
            )
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"{self.table(self.one, 1)}\n\n{self.table(self.many, TRIALS)}"

    def apart(self, first: Cell, second: Cell) -> bool:
        """More is found in the first cell, and the two 95 % intervals do not overlap."""
        return wilson(self.many[first], TRIALS)[0] > wilson(self.many[second], TRIALS)[1]

    def alike(self, first: Cell, second: Cell) -> bool:
        """The cells differ, but each rate lies well within the other's interval, and neither is full or empty."""
        mine, theirs = self.many[first], self.many[second]
        within = all(
            low <= seen / TRIALS <= high
            for seen, (low, high) in ((mine, wilson(theirs, TRIALS)), (theirs, wilson(mine, TRIALS)))
        )
        return mine != theirs and within and {mine, theirs}.isdisjoint({0, TRIALS})

    def seen(self, *cells: Cell) -> str:
        """What was found in some cells, with the interval of each."""
        texts = []
        for cell in cells:
            low, high = wilson(self.many[cell], TRIALS)
            texts.append(f"{self.many[cell]} of {TRIALS} ({low:.2f} to {high:.2f})")
        return " and ".join(texts)


@cache
def drift_map() -> Map:
    """The first map that has cells for every claim. Its map of one trial is the first trial that has a hole."""
    for draw in range(DRAWS):
        trials = [_measured(f"exercise 07 {draw} {trial}") for trial in range(TRIALS)]
        many = {cell: sum(found[cell] for found in trials) for cell in trials[0]}
        for seen in (Map(many, one) for one in trials):
            if _claims(seen):
                return seen
    raise ValueError(f"of {DRAWS} maps one must have cells for every claim; none of scheme {SCHEME!r} has")


@cache
def claims() -> dict[str, Claim]:
    """What is claimed from the map, by letter."""
    found = _claims(drift_map())
    assert found, "drift_map looks for a map that has them"
    return found


def listed() -> str:
    """The claims and the verdicts, as text."""
    numbered = [f"{letter}. {claim.text}" for letter, claim in claims().items()]
    return "\n".join([*numbered, "", *(f"{number} = {says}" for number, says in VERDICTS.items())])


def _measured(seeds: str) -> dict[Cell, int]:
    """One trial of every cell: 1 where the needle was found, else 0."""
    rows = heatmap(load(SCHEME), LENGTHS, DEPTHS, NOISE, repetitions=1, seeds=seeds, progress=False)
    return {(row["tokens"], row["depth"]): int(row["right"]) for row in rows}


def _claims(seen: Map) -> dict[str, Claim] | None:
    """The claims about a map, or None if it lacks the cells for one of them."""
    found = {letter: next(claim(seen), None) for letter, claim in _KINDS.items()}
    whole = {letter: claim for letter, claim in found.items() if claim}
    return whole if len(whole) == len(found) else None


def _hole(seen: Map) -> Iterator[Claim]:
    """A cell whose only trial was wrong, and most of whose twenty are right."""
    low, high = wilson(0, 1)
    for tokens, depth in seen.one:
        if not seen.one[tokens, depth] and seen.many[tokens, depth] >= 0.7 * TRIALS:
            yield Claim(
                f"The upper map alone: at {tokens:,} tokens, depth {_percent(depth)}, needles get lost.",
                TOO_FEW,
                "one trial",
                f"the upper map saw 0 of 1 there, which is anything from {low:.2f} to {high:.2f}",
            )


def _near_the_question(seen: Map) -> Iterator[Claim]:
    """The newest needle is found, the oldest is not."""
    for tokens in LENGTHS:
        end, start = (tokens, 1.0), (tokens, 0.0)
        if seen.apart(end, start):
            yield Claim(
                f"At {tokens:,} tokens, the end of the text is easier than its beginning.",
                SUPPORTED,
                "a finding thrown away",
                f"{seen.seen(end, start)}: do the two intervals overlap?",
            )


def _full(seen: Map) -> Iterator[Claim]:
    """Two cells in which nothing is ever missed."""
    for one, other in _side_by_side():
        if seen.many[one] == seen.many[other] == TRIALS:
            where, this, that = _compared(one, other)
            yield Claim(
                f"{where}, {this} and {that} are equally hard for this model.",
                FULL_OR_EMPTY,
                "ceiling read as an effect",
                f"{TRIALS} of {TRIALS} in both cells: if one of them were harder, could this task show it?",
            )


def _neighbours(seen: Map) -> Iterator[Claim]:
    """Two cells that differ by no more than luck."""
    for one, other in _side_by_side():
        better, worse = sorted((one, other), key=lambda cell: -seen.many[cell])
        if seen.alike(better, worse):
            where, this, that = _compared(better, worse)
            yield Claim(
                f"{where}, {this} is easier than {that}.",
                TOO_FEW,
                "luck read as a finding",
                f"{seen.seen(better, worse)}: could the same rate be behind both?",
            )


def _middle(seen: Map) -> Iterator[Claim]:
    """The middle is better than the start, and the claim says that it is worse."""
    for tokens in LENGTHS:
        middle, start = (tokens, 0.5), (tokens, 0.0)
        if seen.apart(middle, start):
            yield Claim(
                f"At {tokens:,} tokens, the middle of the text is harder than its beginning.",
                CONTRADICTED,
                "a finding thrown away",
                f"{seen.seen(middle, start)} in the middle and at the start: do the two intervals overlap?",
            )


def _cause(seen: Map) -> Iterator[Claim]:
    """What the map cannot say: it changed two things at once."""
    yield Claim(
        "Longer prompts are harder because they are longer, not because of the facts in them.",
        ELSEWHERE,
        "two things at once",
        "a longer prompt holds more facts as well; was one of the two changed without the other?",
    )


def _empty(seen: Map) -> Iterator[Claim]:
    """Two cells in which nothing is ever found."""
    for one, other in _side_by_side():
        if seen.many[one] == seen.many[other] == 0:
            where, this, that = _compared(one, other)
            yield Claim(
                f"{where}, {this} or {that} makes no difference.",
                FULL_OR_EMPTY,
                "floor read as an effect",
                f"0 of {TRIALS} in both cells: if one of them were harder, could it score less?",
            )


def _side_by_side() -> Iterator[tuple[Cell, Cell]]:
    """Neighbouring cells of one length, then of one depth."""
    for tokens in LENGTHS:
        yield from (((tokens, one), (tokens, other)) for one, other in pairwise(DEPTHS))
    for depth in DEPTHS:
        yield from (((one, depth), (other, depth)) for one, other in pairwise(LENGTHS))


def _compared(one: Cell, other: Cell) -> tuple[str, str, str]:
    """What two neighbouring cells have in common, and what each has of its own, in words."""
    if one[0] == other[0]:
        return f"At {one[0]:,} tokens", f"depth {_percent(one[1])}", f"depth {_percent(other[1])}"
    return f"At depth {_percent(one[1])}", f"{one[0]:,} tokens", f"{other[0]:,} tokens"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


_KINDS = dict(zip("abcdefg", (_hole, _near_the_question, _full, _neighbours, _middle, _cause, _empty), strict=True))

# ---------------------------------------------------------------- the check


def _judged(letter: str) -> Rule:
    """The rule that a claim gets its verdict."""

    def broken(design: Design) -> Broken:
        claim, given = claims()[letter], design[letter]
        if given == claim.verdict:
            return None
        return _mistake(claim, given), f"claim {letter}, {VERDICTS[given]}? {claim.says}"

    return Rule(f"claim {letter}", broken)


def _mistake(claim: Claim, given: int) -> str:
    """The name of the mistake: the claim's own, unless the verdict shows another one."""
    if {given, claim.verdict} == {SUPPORTED, CONTRADICTED}:
        return "the wrong way round"
    if claim.verdict in (SUPPORTED, CONTRADICTED) or given in (SUPPORTED, CONTRADICTED) or claim.verdict == ELSEWHERE:
        return claim.mistake
    if given == ELSEWHERE:
        return "the map does ask that"
    return "more trials would not help" if given == TOO_FEW else "neither full nor empty"


MAP_CLAIMS = Puzzle("map_claims", fields=dict.fromkeys(_KINDS, (1, len(VERDICTS))), rules=[*map(_judged, _KINDS)])
