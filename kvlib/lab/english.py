"""The needle task as English prose, for models that read more than 433 words, and the score of what they reply."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from kvlib.lab.needle import Question
from kvlib.lab.words import decode, encode

ONLY = "Answer with the number only."
_WORD_OR_MARK = re.compile(r"\w+|[^\w\s]")
_NUMBER = re.compile(r"(?<![0-9])(?<![0-9][.,])[0-9]{3}(?![0-9])(?![.,][0-9])")  # not the 234 of 1,234 or of 0.234


def prose(ids: Iterable[int]) -> str:
    """Token ids as sentences: "The seat of keen actor is 221. The valley held a chair."."""
    text = decode(ids).replace(" .", ".").replace(" ?", "?")
    return re.sub(r"(?:^|[.?] )[a-z]", lambda start: start[0].upper(), text)


def asked(question: Question) -> str:
    """A question as a person would put it to a chat model."""
    return f"{prose(question.ids[:-1])} {ONLY}"  # the last id is the task's own word "answer"


def opening(question: Question) -> str:
    """How a right answer begins: "The seat of keen actor is"."""
    _, is_, *thing, _, _ = question.ids
    return prose([*thing, is_])


def task_ids(prompt: str) -> NDArray[np.int64]:
    """Token ids of a whole prompt in English, question included: the way back, for a model of the 433 words.

    Raises:
        ValueError: a word that is not among them.
    """
    words = _WORD_OR_MARK.findall(prompt.replace(ONLY, "answer").lower())
    return encode(" ".join(words))


def first_number(reply: str) -> int | None:
    """The first number of exactly three digits in a reply, None if there is none."""
    found = _NUMBER.search(reply)
    return int(found[0]) if found else None


def words_and_marks(text: str) -> int:
    """Words and punctuation marks of a text: what it would count in tokens if every word were one."""
    return len(_WORD_OR_MARK.findall(text))
