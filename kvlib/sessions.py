"""Requests and the prefixes they share: what a context cache sees of a conversation.

A prompt is a tuple of parts, (name, tokens). Two prompts share their leading parts that are equal in name and size, and
nothing after the first difference: a prefix cache knows no middle.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import count, takewhile
from typing import Any

from kvlib.units import whole

Part = tuple[Hashable, int]


@dataclass(frozen=True)
class Request:
    """One prompt.

    Attributes:
        at: arrival in seconds, 0 or later.
        parts: what the prompt consists of, in order.
        output_tokens: tokens of the answer.
        answer: name of the answer, if a later prompt repeats it as a part.
        marks: numbers of leading parts after which the caller asks for caching; empty: where the provider likes.
    """

    at: float | Fraction
    parts: tuple[Part, ...]
    output_tokens: int = 0
    answer: Hashable | None = None
    marks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.at < math.inf:
            raise ValueError(f"at must be a number of seconds, 0 or more; got {self.at!r}")
        for name, tokens in self.parts:
            whole(f"tokens of part {name!r}", tokens, 1)
        whole("output_tokens", self.output_tokens)
        if list(self.marks) != sorted(set(self.marks)) or any(not 1 <= mark <= len(self.parts) for mark in self.marks):
            raise ValueError(f"marks must rise within 1 to {len(self.parts)}, the number of parts; got {self.marks!r}")

    @property
    def tokens(self) -> int:
        """Tokens of the prompt."""
        return sum(size for _, size in self.parts)

    def token_ids(self) -> list[tuple[Hashable, int, int]]:
        """Every token of the prompt by name: (part, its size, position in it). For caches that look at tokens."""
        return [(name, size, i) for name, size in self.parts for i in range(size)]


def shared_tokens(first: Request, second: Request) -> int:
    """Tokens of the longest prefix that both prompts have."""
    same = takewhile(lambda pair: pair[0] == pair[1], zip(first.parts, second.parts, strict=False))
    return sum(part[1] for part, _ in same)


def conversation(
    document: int,
    question: int | Sequence[int],
    answer: int | Sequence[int],
    questions: int | None = None,
    pause: float = 60.0,
    *,
    start: float = 0.0,
    name: Hashable = "session",
    mark: str = "everything",
) -> list[Request]:
    """The requests of one conversation over a stateless API: each sends the document and all that was said so far.

    Args:
        document: tokens that stand first in every prompt; 0 for none.
        question: tokens of a question, or of each of them.
        answer: tokens of an answer, or of each of them.
        questions: how many there are, if the tokens do not say so.
        pause: seconds from one request to the next.
        start: seconds at which the first one arrives.
        name: tells this conversation from others; the document belongs to it.
        mark: where the caller marks the prompt: "document", "everything" (its end), or "both".

    Raises:
        ValueError: if the numbers of questions disagree, or a value is out of range.
    """
    if mark not in ("document", "everything", "both"):
        raise ValueError(f'mark must be "document", "everything" or "both"; got {mark!r}')
    asked, said = _each("question", question, questions), _each("answer", answer, questions)
    many = len(asked) or len(said) or 1
    asked, said = asked or [question] * many, said or [answer] * many  # type: ignore[list-item]
    if len(asked) != len(said):
        raise ValueError(f"question and answer must be as many; got {len(asked)} and {len(said)}")
    parts: tuple[Part, ...] = (((name, "document"), document),) if whole("document", document) else ()
    front, requests = len(parts), []
    for turn in range(many):
        reply = (name, "answer", turn)
        parts = (*parts, ((name, "question", turn), asked[turn]))
        ends = {"document": {front}, "everything": {len(parts)}, "both": {front, len(parts)}}[mark] - {0}
        requests.append(Request(start + turn * pause, parts, said[turn], reply, tuple(sorted(ends))))
        parts = (*parts, (reply, said[turn])) if said[turn] else parts
    return requests


def _each(name: str, value: int | Sequence[int], many: int | None) -> list[int]:
    """One number for each of `many` turns; empty if it is one number and `many` is not known."""
    if not isinstance(value, Sequence):
        whole(name, value)
        return [value] * whole("questions", many, 1) if many is not None else []
    if many not in (None, len(value)) or not value:
        raise ValueError(f"{name} must be a number, or one for each question; got {len(value)} for {many}")
    return [whole(name, item) for item in value]


def stamped(requests: Iterable[Request], tokens: int = 20) -> list[Request]:
    """The same requests with something new at the very front, such as the time of day: no two share a prefix."""
    stamp = count()
    return [
        replace(each, parts=((("stamp", next(stamp)), tokens), *each.parts), marks=tuple(m + 1 for m in each.marks))
        for each in requests
    ]


def block_references(requests: Iterable[Request], block_tokens: int) -> list[list[int]]:
    """The full blocks of each prompt as numbers: equal where the block and everything before it are equal.

    A block that the prompt does not fill has no number; it is never shared. Exact, not hashed: no collisions.
    """
    block = whole("block_tokens", block_tokens, 1)
    known: dict[Any, int] = {}
    return [list(_chain(_blocks(request, block), known)) for request in requests]


def _chain(blocks: Iterator[Any], known: dict[Any, int]) -> Iterator[int]:
    parent = -1
    for block in blocks:
        parent = known.setdefault((parent, block), len(known))
        yield parent


def _blocks(request: Request, block: int) -> Iterator[tuple[Any, ...]]:
    """Each full block as the pieces of parts that lie in it: (part, from, to)."""
    pieces: list[Any] = []
    room = block
    for part in request.parts:
        begin = 0
        while begin < part[1]:
            end = min(part[1], begin + room)
            pieces.append((part, begin, end))
            room -= end - begin
            begin = end
            if room == 0:
                yield tuple(pieces)
                pieces, room = [], block
