"""The model's answers for exercises 1, 6 and 7: a haystack is read once, and each of its questions is put to a copy."""

from __future__ import annotations

from kvlib.lab.needle import Haystack
from kvlib.lab.tinylm import load


def answers(hay: Haystack) -> list[int]:
    """The model's answer to each question, as a word id. With no sentence left it reads the question alone."""
    model = load()
    first = model.prefill(hay.ids) if hay.sentences else None
    given = []
    for asked in hay.questions:
        cache, rest = (model.prefill(asked.ids[:1]), asked.ids[1:]) if first is None else (first.fork(1), asked.ids)
        given.append(int(model.read(cache, rest).answer[0]))
    return given


def right_answers(hay: Haystack) -> int:
    """How many of the questions are answered right."""
    return sum(answer == asked.answer for answer, asked in zip(answers(hay), hay.questions, strict=True))
