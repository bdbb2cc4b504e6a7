"""The sentences of the needle task: facts about things, questions about facts, and filler that answers nothing.

A fact says `the seat of brave doctor is 221 .`, and its question asks `what is the seat of brave doctor ? answer`. The
three key words stand 5, 3 and 2 places before the value in the one, and before the answer in the other: a model that
looks back by these distances can compare the two.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple, TypeVar

from kvlib.lab.words import (
    ADJECTIVES,
    ADVERBS,
    ATTRIBUTES,
    FILLER_ADJECTIVES,
    FILLER_NOUNS,
    NOUNS,
    VALUES,
    VERBS,
    decode,
    encode,
    ids_of,
)

T = TypeVar("T")

FACT_TOKENS, QUESTION_TOKENS, VALUE_AT = 8, 9, 6
PARTS = (len(ATTRIBUTES), len(ADJECTIVES), len(NOUNS))  # 12 * 20 * 20 = 4,800 things to ask for

_ATTRIBUTE = ids_of(ATTRIBUTES)
_ADJECTIVE, _NOUN = (ids_of(form for pair in pairs for form in pair) for pairs in (ADJECTIVES, NOUNS))
_THE, _OF, _IS, _STOP, _WHAT, _ASKS, _ANSWER = (int(token) for token in encode("the of is . what ? answer"))
_GROUPS = {
    "N": ids_of(FILLER_NOUNS),
    "V": ids_of(VERBS),
    "A": ids_of(FILLER_ADJECTIVES),
    "ADV": ids_of(ADVERBS),
    "VALUE": VALUES,
    "ATTRIBUTE": _ATTRIBUTE,
    "ADJECTIVE": _ADJECTIVE,
    "NOUN": _NOUN,
}
FILLER_SHAPES = {
    "plain": (
        "the N V the N ADV .",
        "the A N V a N in the N .",
        "a N in the N was A and A .",
        "ADV the N was by the A N .",
        "the N of the N is A .",
    ),
    "numeric": ("the N has VALUE N .", "the A N was at VALUE the N .", "a N with VALUE N V the N ."),
    "topical": (
        "the ADJECTIVE NOUN V the N ADV .",
        "the N near the ADJECTIVE NOUN was A .",
        "the ATTRIBUTE was on the A N .",
    ),
}
_FILLERS = {
    kind: tuple(tuple(_GROUPS.get(word) or (int(encode(word)[0]),) for word in shape.split()) for shape in shapes)
    for kind, shapes in FILLER_SHAPES.items()
}  # for each place of a sentence, the ids that may stand there


class Key(NamedTuple):
    """What a fact is about: the numbers of its attribute, its adjective's meaning and its noun's meaning."""

    attribute: int
    adjective: int
    noun: int

    def shared(self, other: Key) -> int:
        """How many of the three parts another key has in common with this one: 0 to 3."""
        return sum(mine == theirs for mine, theirs in zip(self, other, strict=True))


@dataclass(frozen=True)
class Sentence:
    """Some words of a haystack, and what they are there for."""

    ids: tuple[int, ...]
    kind: str  # needle, fact, plain, numeric, topical, or pad (filler cut to fit)
    key: Key | None = None
    value: int | None = None  # the id that a fact states

    @property
    def text(self) -> str:
        return decode(self.ids)


def fact(rng: Random, key: Key, value: int, kind: str = "fact") -> Sentence:
    """The 8 tokens that give a key its value (a word id), with names of the thing drawn at random."""
    adjective = _ADJECTIVE[2 * key.adjective + (rng.random() < 0.5)]
    noun = _NOUN[2 * key.noun + (rng.random() < 0.5)]
    return Sentence((_THE, _ATTRIBUTE[key.attribute], _OF, adjective, noun, _IS, value, _STOP), kind, key, value)


def question(about: Sentence, synonym: bool = False) -> tuple[int, ...]:
    """The 9 token ids that ask for a fact's value, by its own names of the thing or by both other names."""
    _, attribute, _, adjective, noun, *_ = about.ids
    if synonym:
        adjective, noun = _other(adjective, _ADJECTIVE), _other(noun, _NOUN)
    return (_WHAT, _IS, _THE, attribute, _OF, adjective, noun, _ASKS, _ANSWER)


def filler(rng: Random, kind: str = "plain") -> Sentence:
    """A sentence without an answer: plain, numeric (a number that belongs to nothing) or topical (names a thing)."""
    shape = _pick(rng, _FILLERS[kind])
    return Sentence(tuple(_pick(rng, choices) for choices in shape), kind)


def random_key(rng: Random) -> Key:
    """One of the 4,800 keys."""
    return Key(*(int(rng.random() * many) for many in PARTS))


def rival_key(rng: Random, key: Key, shared: int, taken: Container[Key] = ()) -> Key:
    """A key that has exactly `shared` of its three parts (0 to 2) in common with `key`, and is not `taken`."""
    while True:
        changed = rng.sample(range(3), 3 - shared)
        parts = [
            (part + rng.randint(1, many - 1)) % many if place in changed else part
            for place, (part, many) in enumerate(zip(key, PARTS, strict=True))
        ]
        if (near := Key(*parts)) not in taken:
            return near


def free_value(rng: Random, taken: Container[int] = ()) -> int:
    """The word id of one of the 200 values that is not `taken`."""
    while (value := _pick(rng, VALUES)) in taken:
        pass
    return value


def free_key(rng: Random, taken: Container[Key]) -> Key:
    """One of the 4,800 keys that is not `taken`."""
    while (key := random_key(rng)) in taken:
        pass
    return key


def _pick(rng: Random, choices: Sequence[T]) -> T:
    return choices[int(rng.random() * len(choices))]  # several times as fast as rng.choice


def _other(word: int, group: range) -> int:
    """The second name of an adjective or a noun: names of one meaning are neighbours."""
    return group[(word - group.start) ^ 1]
