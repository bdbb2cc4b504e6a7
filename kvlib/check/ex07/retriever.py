"""Exercise 6: a retriever, tried on a page of six sentences and then on haystacks that the model has to answer from."""

from __future__ import annotations

from functools import cache
from random import Random

from kvlib.check.ex07.model import right_answers
from kvlib.check.ex07.places import Broken, Pick, Selection
from kvlib.lab.needle import Haystack, haystack

QUESTION = "what is the seat of brave doctor ? answer"
PAGE = (
    "the river of the table is dim .",
    "the seat was on the dusty road .",
    "the seat of brave doctor is 221 .",
    "the valley of the lamp is pale .",
    "a lake in the cave was green and wide .",
    "the hill near the brave doctor was steep .",
)
NEEDLE, MENTIONED = 2, {1, 2, 5}  # places on the page: the answer, and all that name something of the question

TRIALS, TOKENS, RIVALS = 20, 1_024, 40
STYLES = {"its own words": False, "other words": True}


@cache
def haystacks(style: str) -> tuple[Haystack, ...]:
    """Nothing but facts, 40 of them rivals; asked in the needle's own words or in other words for the same thing."""
    return tuple(
        haystack(Random(f"exercise 07 {trial}"), TOKENS, facts=1.0, rivals=RIVALS, synonym=STYLES[style])
        for trial in range(TRIALS)
    )


@cache
def right_with_everything(style: str) -> int:
    """Right answers of the model when all sentences are sent."""
    return sum(right_answers(hay) for hay in haystacks(style))


def tried(pick: Pick, style: str, best: int) -> tuple[int, int]:
    """In how many haystacks the needle was among what was picked, and how many answers were right."""
    found = right = 0
    for hay in haystacks(style):
        asked = hay.questions[0]
        picked = pick(len(hay.sentences), asked.text, [sentence.text for sentence in hay.sentences], best)
        found += asked.needle in picked
        right += right_answers(hay.keep(picked))
    return found, right


def _quoted(place: int) -> str:
    return f"'{PAGE[place]}'"


def _needle(pick: Pick) -> str | Broken:
    """The best sentence of the page is the one that answers."""
    picked = pick(len(PAGE), QUESTION, list(PAGE), 1)
    if len(picked) > 1:
        says = f"asked for 1 sentence, you kept {len(picked)}: what is kept beyond `best` is paid, and distracts"
        return "more than asked", says
    if picked == [NEEDLE + 1]:
        return "counted from one", f"'{QUESTION}' got {_quoted(picked[0])}: the first sentence has place 0"
    if picked != [NEEDLE]:
        got = _quoted(picked[0]) if picked else "nothing"
        return "needle thrown out", f"'{QUESTION}' got {got}, and another sentence of the page answers it"
    return "best=1: the sentence that answers is kept"


def _words(pick: Pick) -> str | Broken:
    """Three sentences name something of the question; the others have only its function words."""
    picked = pick(len(PAGE), QUESTION, list(PAGE), 3)
    if len(picked) > 3:
        return "more than asked", f"asked for 3 sentences, you kept {len(picked)}"
    if strange := [place for place in picked if place not in MENTIONED]:
        says = f"best=3: you kept {_quoted(strange[0])}; what does it have in common with seat, brave or doctor?"
        return "function words counted", says
    if NEEDLE not in picked:
        return "needle thrown out", "best=3: the sentence that answers is not among what you kept"
    return "best=3: function words do not count"


def _padding(pick: Pick) -> str | Broken:
    """Asked for five, three are enough: the others have nothing to do with the question."""
    picked = pick(len(PAGE), QUESTION, list(PAGE), 5)
    if strange := [place for place in picked if place not in MENTIONED]:
        says = f"best=5: you filled up with {_quoted(strange[0])}; `best` is the most to keep, not a number to reach"
        return "top-k padded", says
    return "best=5: nothing is kept only to fill up"


def _order(pick: Pick) -> str | Broken:
    """What is kept stands as it stood in the text."""
    picked = pick(len(PAGE), QUESTION, list(PAGE), 3)
    if picked != sorted(picked):
        says = (
            f"best=3: you kept the places {picked} in this order; the model should read them as they stood in the text"
        )
        return "order of the text lost", says
    return "what is kept stands in the order of the text"


def _found(pick: Pick, style: str, mistake: str, why: str) -> str | Broken:
    """Of 20 haystacks of 1,024 tokens, the needle of each is kept."""
    found, right = tried(pick, style, 1)
    if found < TRIALS:
        says = f"asked in {style}, best=1: the needle was found in {found} of {TRIALS} haystacks, and {right} answers"
        return mistake, f"{says} were right ({right_with_everything(style)} with all sentences sent); {why}"
    return (
        f"asked in {style}, best=1: found in {found} of {TRIALS} haystacks, {right} answers right "
        f"({right_with_everything(style)} with all sentences sent)"
    )


def _same_words(pick: Pick) -> str | Broken:
    return _found(pick, "its own words", "needle missed", "all three words of the question stand in it")


def _other_words(pick: Pick) -> str | Broken:
    return _found(pick, "other words", "exact words only", "brave or bold, doctor or physician: it is the same thing")


RETRIEVE = Selection("retrieve", (_needle, _words, _padding, _order, _same_words, _other_words))
