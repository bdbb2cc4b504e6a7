"""Made-up traffic with the structure of real traffic: chats, agents, and questions about shared documents.

What matters to a prefix cache is who repeats what, how much, and after how long. These parameters say it; their
defaults are round numbers chosen to be plausible, not fitted to a trace. A numpy Generator makes the draws, so a seed
repeats them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from numpy.random import Generator

from kvlib.sessions import Part, Request
from kvlib.units import whole


@dataclass(frozen=True)
class Spread:
    """A lognormal quantity: half of the draws lie below `median`, two thirds within a factor e**sigma of it."""

    median: float
    sigma: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.median < math.inf and 0 <= self.sigma < math.inf):
            raise ValueError(f"a spread must have a median above 0 and a sigma of 0 or more; got {self!r}")

    def tokens(self, rng: Generator, many: int) -> list[int]:
        """`many` whole numbers, 1 or more."""
        return [max(1, round(draw)) for draw in self.seconds(rng, many)]

    def seconds(self, rng: Generator, many: int) -> list[float]:
        """`many` positive numbers."""
        return [float(draw) for draw in rng.lognormal(math.log(self.median), self.sigma, many)]


def chats(
    rng: Generator,
    sessions: int,
    *,
    per_second: float = 1.0,
    turns: float = 5.0,
    system_tokens: int = 1_000,
    question: Spread = Spread(80, 1.0),
    answer: Spread = Spread(250, 0.8),
    pause: Spread = Spread(30, 1.0),
) -> list[Request]:
    """People who talk: every prompt repeats the system prompt of all and the history of its session.

    Args:
        rng: source of the draws.
        sessions: conversations.
        per_second: conversations that begin per second, at random (a Poisson process).
        turns: mean number of questions in a conversation, 1 or more (geometric).
        system_tokens: tokens that all conversations begin with; 0 for none.
        question: tokens of a question.
        answer: tokens of an answer.
        pause: seconds from one question to the next.

    Returns:
        Requests in order of arrival.

    Raises:
        ValueError: if a parameter is out of range.
    """
    shared = _shared("system", system_tokens)
    rows: list[Request] = []
    for name, start in enumerate(_starts(rng, sessions, per_second)):
        many = _turns(rng, turns)
        spoken = zip(question.tokens(rng, many), answer.tokens(rng, many), pause.seconds(rng, many), strict=True)
        rows += _session(("chat", name), start, shared, list(spoken))
    return sorted(rows, key=_arrival)


def agents(
    rng: Generator,
    sessions: int,
    *,
    per_second: float = 0.1,
    steps: float = 30.0,
    system_tokens: int = 15_000,
    task: Spread = Spread(500, 1.0),
    result: Spread = Spread(800, 1.2),
    action: Spread = Spread(120, 0.8),
    pause: Spread = Spread(4, 0.8),
) -> list[Request]:
    """Agents with tools: a long shared front (instructions and tools), many short steps, each with a tool's result.

    Args as in `chats`, with `steps` for turns; the first prompt adds a `task`, every later one the `result` of a tool;
    `action` is what the model writes, `pause` how long the tool takes.
    """
    shared = _shared("tools", system_tokens)
    rows: list[Request] = []
    for name, start in enumerate(_starts(rng, sessions, per_second)):
        many = _turns(rng, steps)
        inputs = task.tokens(rng, 1) + result.tokens(rng, many - 1)
        done = zip(inputs, action.tokens(rng, many), pause.seconds(rng, many), strict=True)
        rows += _session(("agent", name), start, shared, list(done))
    return sorted(rows, key=_arrival)


def documents(
    rng: Generator,
    requests: int,
    *,
    per_second: float = 1.0,
    library: int = 100,
    popularity: float = 1.0,
    document: Spread = Spread(20_000, 0.7),
    system_tokens: int = 500,
    question: Spread = Spread(50, 0.7),
    answer: Spread = Spread(200, 0.7),
) -> list[Request]:
    """Single questions about documents that many ask about: system prompt, document, question.

    Args:
        rng: source of the draws.
        requests: questions.
        per_second: questions per second, at random.
        library: documents. Their popularity falls with their rank: the k-th is asked about k**-popularity as often.
        popularity: 0 for all alike; about 1 is common (Zipf).
        document: tokens of a document.
        question: tokens of a question.
        answer: tokens of an answer.
        system_tokens: tokens before the document, the same for all; 0 for none.

    Raises:
        ValueError: if a parameter is out of range.
    """
    if not 0 <= popularity < math.inf:
        raise ValueError(f"popularity must be 0 or more; got {popularity!r}")
    shared = _shared("system", system_tokens)
    sizes = document.tokens(rng, whole("library", library, 1))
    weights = [rank**-popularity for rank in range(1, library + 1)]
    chosen = rng.choice(library, whole("requests", requests), p=[weight / sum(weights) for weight in weights])
    asked, said = question.tokens(rng, requests), answer.tokens(rng, requests)
    rows = []
    for number, at in enumerate(_starts(rng, requests, per_second)):
        text = int(chosen[number])
        parts = (*shared, (("document", text), sizes[text]), (("about", number), asked[number]))
        rows.append(Request(at, parts, said[number], ("reply", number), (len(shared) + 1,)))
    return rows


def _session(name: Any, start: float, shared: tuple[Part, ...], turns: list[tuple[int, int, float]]) -> list[Request]:
    """The requests of one session: each prompt is the last one, its answer, and something new."""
    rows, parts, at = [], shared, start
    for turn, (new, said, wait) in enumerate(turns):
        parts = (*parts, ((name, "new", turn), new))
        rows.append(Request(at, parts, said, (name, "said", turn)))
        parts = (*parts, ((name, "said", turn), said))
        at += wait
    return rows


def _starts(rng: Generator, many: int, per_second: float) -> list[float]:
    if not 0 < per_second < math.inf:
        raise ValueError(f"per_second must be above 0; got {per_second!r}")
    return [float(at) for at in rng.exponential(1 / per_second, whole("sessions", many)).cumsum()]


def _turns(rng: Generator, mean: float) -> int:
    if not 1 <= mean < math.inf:
        raise ValueError(f"turns must be 1 or more on average; got {mean!r}")
    return int(rng.geometric(1 / mean))


def _shared(name: str, tokens: int) -> tuple[Part, ...]:
    return ((name, tokens),) if whole("system_tokens", tokens) else ()


def _arrival(request: Request) -> float:
    return float(request.at)
