"""The needle task in English: notes that tell codes of printers, safes and gates in many cities, and what is asked.

One code, ten, or nothing but codes; the rest is chatter. A reply is right if its number is the code that was asked for.
The question gives the opening words of the answer, so that the task measures whether a model finds the code, and not
how it likes to talk: with one old benchmark such words alone turned 27 % into 98 % (Anthropic, "Long context prompting
for Claude 2.1", 2023).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from random import Random
from typing import NamedTuple

from kvlib.units import whole

Encode = Callable[[str], Sequence[int]]

_LISTS = tomllib.loads((files("kvlib") / "data" / "smol_words.toml").read_text(encoding="utf-8"))
CITIES, THINGS = tuple(_LISTS["cities"].split()), tuple(_LISTS["things"].split())
WHO, DID, WHAT, WHEN = (tuple(_LISTS[part]) for part in ("who", "did", "what", "when"))

ALONE, ONE, TEN, ALL = "the code alone", "one code in chatter", "ten codes in chatter", "codes only"
ARMS = (ONE, TEN, ALL)
QUESTIONS = 10  # asked of one haystack in the arms that tell so many codes
REPORTING = "reporting"  # the seeds of the recorded results; try things out with others
QUOTES = ("1 of 2", "0 of 2", "nothing", "no code")  # what a wrong answer was taken from
END = "<|im_end|>"
START = (
    f"<|im_start|>system\nYou are a helpful assistant.{END}\n"
    "<|im_start|>user\nRead these notes, then answer the question.\n\n"
)


class Code(NamedTuple):
    """A fact: a thing in a city, and its code of four digits."""

    city: str
    thing: str
    number: str

    @property
    def opening(self) -> str:
        """How the fact begins, and a right answer too."""
        return f"The code of the {self.thing} in {self.city} is"

    @property
    def note(self) -> str:
        return f"{self.opening} {self.number}."

    @property
    def question(self) -> str:
        """What follows the notes in the prompt: the question, and the opening words of the answer."""
        asked = f"What is the code of the {self.thing} in {self.city}?"
        return f"\n\n{asked}{END}\n<|im_start|>assistant\n{self.opening}"

    def shared(self, other: Code) -> int:
        """Parts that two facts have in common, 0 to 2."""
        return (self.city == other.city) + (self.thing == other.thing)


@dataclass(frozen=True)
class Notes:
    """A haystack: sentences in order, the codes that they tell, and those that are asked for, oldest first."""

    sentences: tuple[str, ...]
    codes: tuple[Code, ...]
    asked: tuple[Code, ...]

    def prefix(self, encode: Encode) -> list[int]:
        """Token ids of what stands before every question; no token reaches from one sentence into the next."""
        first, *others = self.sentences
        pieces = (START, first, *(f" {sentence}" for sentence in others))
        return [token for piece in pieces for token in encode(piece)]

    def depth(self, code: Code) -> float:
        """Where a code stands: 0 for the first sentence, 1 for the last."""
        return self.sentences.index(code.note) / max(1, len(self.sentences) - 1)


def notes(arm: str, tokens: int, haystack: int, encode: Encode, seeds: str = REPORTING) -> Notes:
    """The haystack with this number: its prompt, question included, is at most `tokens` long, and nearly that.

    Args:
        arm: ALONE, ONE, TEN or ALL. The one code stands at a depth of 0, 1/9, ... or 1, by its number; ten codes stand
            at all ten depths, and those of the notes that are all codes are asked for at the same depths.
        tokens: room for the prompt; ALONE needs no more than its question.
        haystack: the number. It and the other arguments determine the draw.
        encode: text to token ids.
        seeds: any text, for haystacks of your own.

    Raises:
        ValueError: an unknown arm, too few tokens for its codes, or too many for the codes there are.
    """
    if arm not in (ALONE, *ARMS):
        raise ValueError(f"arm must be one of {', '.join((ALONE, *ARMS))}; got {arm!r}")
    rng = Random(f"{seeds} {tokens} {haystack}")
    supply = random_codes(rng)
    asked = [next(supply) for _ in range(questions_per(arm))]
    room = whole("tokens", tokens, 1) - len(encode(START)) - max(len(encode(code.question)) for code in asked)
    room -= sum(len(encode(f" {code.note}")) for code in asked)
    if room < 0:
        raise ValueError(f"tokens must be {tokens - room} or more for the codes of this arm; got {tokens}")
    if arm == ALONE:
        return Notes((asked[0].note,), tuple(asked), tuple(asked))
    hay: list[Code | str] = []
    for extra in supply if arm == ALL else iter(lambda: chatter(rng), None):
        room -= len(encode(f" {_text(extra)}"))
        if room < 0:
            break
        hay.append(extra)
    else:
        raise ValueError(f"tokens must be fewer: {len(CITIES) * len(THINGS)} codes do not fill them; got {tokens:,}")
    depths = [haystack % QUESTIONS] if arm == ONE else range(QUESTIONS)
    places = [round(depth / (QUESTIONS - 1) * len(hay)) for depth in depths]
    for place, code in reversed(list(zip(places, asked, strict=True))):  # from the last on: the places stay right
        hay.insert(place, code)
    codes = tuple(item for item in hay if isinstance(item, Code))
    return Notes(tuple(_text(item) for item in hay), codes, tuple(asked))


def questions_per(arm: str) -> int:
    """Questions that share a haystack: ten where there are ten codes or more, else one."""
    return QUESTIONS if arm in (TEN, ALL) else 1


def random_codes(rng: Random) -> Iterator[Code]:
    """All things of all cities in random order, each with a number of its own."""
    keys = [(city, thing) for city in CITIES for thing in THINGS]
    rng.shuffle(keys)
    for (city, thing), number in zip(keys, rng.sample(range(1000, 10_000), len(keys)), strict=True):
        yield Code(city, thing, str(number))


def chatter(rng: Random) -> str:
    """A sentence that tells no code and names no city and no thing of the task."""
    return f"The {rng.choice(WHO)} {rng.choice(DID)} the {rng.choice(WHAT)} {rng.choice(WHEN)}."


def code_in(reply: str) -> str | None:
    """The first number of exactly four digits, None if there is none."""
    found = re.search(r"(?<![0-9])[0-9]{4}(?![0-9])", reply)
    return found[0] if found else None


def quoted(asked: Code, reply: str, codes: Sequence[Code]) -> str:
    """Where an answer was taken from: the "needle", another code of the notes, or "nothing" that stands there.

    Another code is named by the parts that it shares with the needle: "1 of 2" or "0 of 2". A reply without a number of
    four digits holds "no code".
    """
    number = code_in(reply)
    if number is None:
        return "no code"
    if number == asked.number:
        return "needle"
    return next((f"{code.shared(asked)} of 2" for code in codes if code.number == number), "nothing")


def _text(item: Code | str) -> str:
    return item.note if isinstance(item, Code) else item
