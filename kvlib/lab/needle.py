"""The needle task: one fact in a haystack of exact length, and the question that only this fact answers.

The hay is filler, or facts about other things; those that share one or two of the needle's three key words are its
rivals. No other fact has the needle's key or its value, so exactly one of the 433 words is right: no judge is needed.
Facts as hay, and rivals that share a part, follow RULER (Hsieh et al. 2024, arXiv 2404.06654).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise
from random import Random

import numpy as np
from numpy.typing import NDArray

from kvlib.lab.sentences import (
    FACT_TOKENS,
    QUESTION_TOKENS,
    VALUE_AT,
    Key,
    Sentence,
    fact,
    filler,
    free_key,
    free_value,
    question,
    random_key,
    rival_key,
)
from kvlib.lab.words import VALUES, decode


@dataclass(frozen=True)
class Question:
    """A question of 9 tokens, the id of its one right answer, and the place of its needle among the sentences."""

    ids: tuple[int, ...]
    answer: int
    needle: int  # -1 when the needle has been taken away
    key: Key

    @property
    def text(self) -> str:
        return decode(self.ids)


@dataclass(frozen=True)
class Haystack:
    """Sentences in order, and one question or more about them."""

    sentences: tuple[Sentence, ...]
    questions: tuple[Question, ...]

    @cached_property
    def ids(self) -> NDArray[np.int64]:
        """Token ids of all sentences, without a question: shape (tokens,)."""
        return np.array([token for sentence in self.sentences for token in sentence.ids], dtype=np.int64)

    @cached_property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """First token of each sentence, and the first after it."""
        ends = [0, *accumulate(len(sentence.ids) for sentence in self.sentences)]
        return tuple(pairwise(ends))

    def prompt(self, question: int = 0) -> NDArray[np.int64]:
        """What the model reads: the sentences, then one question. Shape (tokens,)."""
        return np.concatenate([self.ids, self.questions[question].ids])

    def needle_position(self, question: int = 0) -> int:
        """Place of the token that should be copied.

        Raises:
            ValueError: the needle is no longer there.
        """
        place = self.questions[question].needle
        if place < 0:
            raise ValueError(f"question {question} must still have its needle; its sentence was taken away")
        return self.spans[place][0] + VALUE_AT

    def keep(self, places: Iterable[int]) -> Haystack:
        """Only the sentences at `places`, in their old order.

        Raises:
            ValueError: a place that is no sentence.
        """
        kept = sorted(set(places))
        if kept and not 0 <= kept[0] <= kept[-1] < len(self.sentences):
            raise ValueError(f"places must lie between 0 and {len(self.sentences) - 1}; got {kept}")
        where = {old: new for new, old in enumerate(kept)}
        asked = (replace(one, needle=where.get(one.needle, -1)) for one in self.questions)
        return Haystack(tuple(self.sentences[place] for place in kept), tuple(asked))

    def without(self, places: Iterable[int]) -> Haystack:
        """All sentences but those at `places`. Errors as in `keep`."""
        gone = set(places)
        everything = set(range(len(self.sentences)))
        if not gone <= everything:
            raise ValueError(f"places must lie between 0 and {len(self.sentences) - 1}; got {sorted(gone)}")
        return self.keep(everything - gone)


def haystack(
    rng: Random,
    tokens: int,
    *,
    facts: float = 0.0,
    numeric: float = 0.15,
    topical: float = 0.15,
    rivals: int = 0,
    shared: int = 2,
    depth: float | None = None,
    synonym: bool = False,
) -> Haystack:
    """A haystack with one needle whose prompt, question included, is exactly `tokens` long.

    Args:
        rng: source of the draws, such as `Random(7)`.
        tokens: length of the prompt.
        facts: share of the hay sentences that are facts about other things.
        numeric: share of the filler that holds a number which belongs to nothing.
        topical: share of the filler that names a thing and tells nothing of it.
        rivals: further facts that differ from the needle's key in 3 - `shared` parts.
        shared: parts that those rivals have in common with it, 0 to 2.
        depth: 0 for a needle before all hay, 1 for one just before the question; None draws it.
        synonym: ask with the other names of the adjective and the noun.

    Raises:
        ValueError: a share outside 0 to 1, `shared` outside 0 to 2, or too few tokens for needle, rivals and question.
    """
    depths = [rng.random() if depth is None else depth]
    hay = {"facts": facts, "numeric": numeric, "topical": topical}
    return needles(rng, tokens, depths, rivals=rivals, shared=shared, synonym=synonym, **hay)


def needles(
    rng: Random,
    tokens: int,
    depths: Sequence[float],
    *,
    facts: float = 0.0,
    numeric: float = 0.15,
    topical: float = 0.15,
    rivals: int = 0,
    shared: int = 2,
    synonym: bool = False,
) -> Haystack:
    """As `haystack`, with one needle and one question per depth: the hay is read once, and asked many times.

    Each needle is one more fact for the other questions; `rivals` counts per needle.
    """
    _check_shares(facts=facts, numeric=numeric, topical=topical, **{"numeric + topical": numeric + topical})
    _check_shares(**{f"depths[{place}]": depth for place, depth in enumerate(depths)})
    room = _room(tokens, len(depths), rivals, shared)
    keys: list[Key] = []
    while len(keys) < len(depths):
        if (key := random_key(rng)) not in keys:
            keys.append(key)
    values = rng.sample(VALUES, len(depths))

    hay: list[Sentence] = []
    while len((one := _hay(rng, facts, numeric, topical, keys, values)).ids) <= room:
        hay.append(one)
        room -= len(one.ids)
    for key in keys:
        for _ in range(rivals):
            near = fact(rng, rival_key(rng, key, shared, keys), free_value(rng, values))
            hay.insert(rng.randint(0, len(hay)), near)
    places = [round(depth * len(hay)) for depth in depths]
    told = [fact(rng, key, value, "needle") for key, value in zip(keys, values, strict=True)]
    for last in sorted(range(len(depths)), key=lambda each: -places[each]):  # from last to first: the places stay right
        hay.insert(places[last], told[last])
    sentences = (*_padding(rng, room), *hay)

    asked = (
        Question(question(needle, synonym), value, sentences.index(needle), key)
        for needle, value, key in zip(told, values, keys, strict=True)
    )
    return Haystack(sentences, tuple(asked))


def _hay(
    rng: Random, facts: float, numeric: float, topical: float, keys: Sequence[Key], values: Sequence[int]
) -> Sentence:
    if rng.random() < facts:
        return fact(rng, free_key(rng, keys), free_value(rng, values))
    draw = rng.random()
    return filler(rng, "numeric" if draw < numeric else "topical" if draw < numeric + topical else "plain")


def _padding(rng: Random, room: int) -> Iterator[Sentence]:
    """Plain filler of exactly `room` tokens, its start cut off to fit; nothing for no room."""
    pad: tuple[int, ...] = ()
    while len(pad) < room:
        pad = (*filler(rng).ids, *pad)
    if room:
        yield Sentence(pad[len(pad) - room :], "pad")


def _room(tokens: int, needles: int, rivals: int, shared: int) -> int:
    """Tokens left for hay."""
    if not 1 <= needles <= len(VALUES) // 2:
        raise ValueError(f"depths must name 1 to {len(VALUES) // 2} needles; got {needles}")
    if rivals < 0 or shared not in range(3):
        raise ValueError(f"rivals must be 0 or more and shared 0, 1 or 2; got rivals={rivals!r}, shared={shared!r}")
    least = QUESTION_TOKENS + FACT_TOKENS * needles * (1 + rivals)
    if tokens < least:
        raise ValueError(f"tokens must be {least} or more for its needles, rivals and question; got {tokens!r}")
    return tokens - least


def _check_shares(**shares: float) -> None:
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"{name} must lie between 0 and 1; got {share!r}")
