"""The 433 words of the needle task. One word is one token, so a page of it can be read by eye and counted by hand.

A thing is called by an adjective and a noun, and each of the two has a second name that means the same: red or crimson,
boat or ship. Filler words never name a thing, and the 200 values are the numbers from 100 to 299.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

_LISTS = tomllib.loads((files("kvlib") / "data" / "needle" / "words.toml").read_text(encoding="utf-8"))
_NUMBERS = tuple(str(number) for number in range(100, 300))
ATTRIBUTES = tuple(_LISTS["attributes"].split())
ADJECTIVES, NOUNS = (tuple(tuple(pair.split("/")) for pair in _LISTS[name].split()) for name in ("adjectives", "nouns"))
FILLER_NOUNS, VERBS, FILLER_ADJECTIVES, ADVERBS = (
    tuple(_LISTS[name].split()) for name in ("filler_nouns", "verbs", "filler_adjectives", "adverbs")
)
WORDS: tuple[str, ...] = (
    *_LISTS["function"].split(),
    *ATTRIBUTES,
    *(form for pair in (*ADJECTIVES, *NOUNS) for form in pair),
    *_NUMBERS,
    *FILLER_NOUNS,
    *VERBS,
    *FILLER_ADJECTIVES,
    *ADVERBS,
)
_ID = {word: number for number, word in enumerate(WORDS)}


def ids_of(words: Iterable[str]) -> range:
    """Ids of a group of words that stand side by side in `WORDS`.

    Raises:
        ValueError: unknown words, or words that do not stand side by side.
    """
    ids = [_id(word) for word in words]
    if not ids or ids != list(range(ids[0], ids[-1] + 1)):
        raise ValueError(f"words must be a run of the vocabulary, in its order; got {list(words)!r}")
    return range(ids[0], ids[-1] + 1)


def encode(text: str) -> NDArray[np.int64]:
    """Token ids of a text whose words are separated by spaces: shape (words,).

    Raises:
        ValueError: a word that is not among the 433.
    """
    return np.array([_id(word) for word in text.split()], dtype=np.int64)


def decode(ids: Iterable[int]) -> str:
    """The words of some token ids, separated by spaces.

    Raises:
        ValueError: an id below 0 or above 432.
    """
    numbers = [int(number) for number in ids]
    for number in numbers:
        if not 0 <= number < len(WORDS):
            raise ValueError(f"ids must lie between 0 and {len(WORDS) - 1}; got {number}")
    return " ".join(WORDS[number] for number in numbers)


def _id(word: str) -> int:
    if word not in _ID:
        raise ValueError(f"text must use the {len(WORDS)} words of the task; got {word!r}")
    return _ID[word]


VALUES = ids_of(_NUMBERS)
CHANCE = 1 / len(VALUES)  # of naming the right value blindly
