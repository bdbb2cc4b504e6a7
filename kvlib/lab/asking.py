"""A question asked once: how the haystack is read, whether the answer is right, and where the model looked for it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvlib.lab.attention import Array
from kvlib.lab.needle import Haystack
from kvlib.lab.tinylm import Cache, Reading, TinyLM
from kvlib.lab.words import VALUES
from kvlib.units import whole

TRAINED = 256  # tokens of the longest sequence that the models were trained on
QUOTES = ("2 of 3", "1 of 3", "0 of 3", "filler", "nothing")  # what a wrong answer was taken from

Retriever = Callable[[str, Sequence[str]], Iterable[int]]


@dataclass(frozen=True)
class Way:
    """How a haystack is read: all of it, or what a retriever picks; with attention as trained, or sharpened.

    Attributes:
        name: stands in the record.
        retriever: given the question and the sentences as texts, it names the places of those to send; None: all. It
            is not told which is the needle. They are sent in their old order.
        first_pass: the retriever is the model itself, which reads everything first: those tokens are sent too.
        slope: the global layer's scores are multiplied by 1 + slope x max(0, ln(tokens / 256) / ln 256).
        top_keys: each head keeps this many keys; None: all.
    """

    name: str = "everything"
    retriever: Retriever | None = None
    first_pass: bool = False
    slope: float = 0.0
    top_keys: int | None = None

    def temperature(self, tokens: int) -> float:
        """Factor on the scores: 1 up to the trained length, then it grows as the logarithm of the tokens."""
        return 1 + self.slope * max(0.0, math.log(tokens / TRAINED) / math.log(TRAINED))


class Trial(NamedTuple):
    """One question, asked once."""

    right: bool
    mass: float  # attention on the value to copy, mean over the heads
    deltas: tuple[float, ...]  # per head: how far its score lies above those of the other tokens, in nats
    sent: int  # tokens, question included
    kv_bytes: int  # of the cache after reading them
    found: bool  # the needle was among what was sent
    quoted: str  # what the answer was taken from: "needle" or one of QUOTES


class Prompts:
    """Haystacks of one length, read once: each way of reading all of them goes on from there.

    Raises:
        ValueError: if there are none, or their lengths differ.
    """

    def __init__(self, model: TinyLM, hays: Sequence[Haystack]) -> None:
        lengths = {len(hay.ids) for hay in hays}
        if len(lengths) != 1:
            raise ValueError(f"hays must be one or more, all equally long; got lengths {sorted(lengths)}")
        self.model, self.hays = model, hays
        self._asked = np.array([hay.questions[0].ids for hay in hays])
        self._ids = np.array([hay.ids for hay in hays]).reshape(len(hays), -1)

    @cached_property
    def _cache(self) -> Cache | None:
        return self.model.prefill(self._ids) if self._ids.size else None

    @cached_property
    def _texts(self) -> list[list[str]]:
        return [[sentence.text for sentence in hay.sentences] for hay in self.hays]

    def read(self, way: Way) -> list[Trial]:
        """Ask every haystack its first question."""
        return self._all(way) if way.retriever is None else self._picked(way, way.retriever)

    def _all(self, way: Way) -> list[Trial]:
        tokens = self._ids.shape[1] + self._asked.shape[1]
        cache, asked = copy.deepcopy(self._cache), self._asked
        if cache is None:  # nothing was retrieved
            cache, asked = self.model.prefill(asked[:, :1]), asked[:, 1:]
        reading = self.model.read(cache, asked, way.temperature(tokens), way.top_keys)
        kv_bytes = cache.nbytes // len(self.hays)
        return [judged(hay, reading, row, tokens, kv_bytes) for row, hay in enumerate(self.hays)]

    def _picked(self, way: Way, retriever: Retriever) -> list[Trial]:
        first = self._ids.shape[1] + self._asked.shape[1] if way.first_pass else 0
        trials = []
        for hay, texts in zip(self.hays, self._texts, strict=True):
            picked = hay.keep(retriever(hay.questions[0].text, texts))
            (trial,) = Prompts(self.model, [picked])._all(way)
            trials.append(trial._replace(sent=first + trial.sent))
        return trials


def quoted(hay: Haystack, answer: int, question: int = 0) -> str:
    """Where an answer was taken from: the "needle", another fact, a "filler" sentence, or "nothing" that stands there.

    A fact is named by the parts of its key that it shares with the needle's: "2 of 3", "1 of 3" or "0 of 3".
    """
    asked = hay.questions[question]
    if answer == asked.answer:
        return "needle"
    shared = [one.key.shared(asked.key) for one in hay.sentences if one.key and one.value == answer]
    if shared:
        return f"{max(shared)} of 3"
    return "filler" if answer in VALUES and answer in hay.ids else "nothing"


def needle_scores(attention: Array, place: int) -> tuple[float, tuple[float, ...]]:
    """Mass and deltas of one answer: attention of shape (heads, tokens), and the place of the value in it.

    Delta is the needle's score minus the log of the mean power of the other tokens' scores. Attention is their softmax,
    so it says it all: delta = ln(m (tokens - 1) / (1 - m)) for the head's mass m.
    """
    weights = attention.astype(np.float64)
    mine, others = weights[:, place], np.delete(weights, place, axis=1).mean(axis=1)
    with np.errstate(divide="ignore"):
        return float(mine.mean()), tuple((np.log(mine) - np.log(others)).tolist())


def shares(reading: Reading, spans: Sequence[tuple[int, int]], sequence: int = 0) -> NDArray[np.float64]:
    """How much of the answer's attention falls on each sentence: its sum over the sentence, mean over the heads.

    Args:
        reading: from `TinyLM.read`.
        spans: (start, end) of each sentence in tokens, end not included.
        sequence: which of the reading's sequences.

    Returns:
        One share per sentence. If the spans cover the whole text once, the shares sum to 1.

    Raises:
        ValueError: if a span does not lie in the text, or there is no such sequence.
    """
    batch, _, tokens = reading.attention.shape
    if whole("sequence", sequence) >= batch:
        raise ValueError(f"sequence must be below the reading's batch of {batch}; got {sequence}")
    for start, end in spans:
        if not 0 <= start <= end <= tokens:
            raise ValueError(f"spans must lie in the {tokens} tokens that were read; got {(start, end)}")
    starts, ends = np.array(spans, dtype=np.int64).reshape(-1, 2).T
    so_far = np.concatenate([[0.0], reading.attention[sequence].mean(axis=0, dtype=np.float64).cumsum()])
    found: NDArray[np.float64] = so_far[ends] - so_far[starts]
    return found


def judged(hay: Haystack, reading: Reading, row: int, sent: int, kv_bytes: int, question: int = 0) -> Trial:
    """What became of one question, from the model's reading of it."""
    asked, answer = hay.questions[question], int(reading.answer[row])
    found = asked.needle >= 0
    mass, deltas = needle_scores(reading.attention[row], hay.needle_position(question)) if found else (0.0, ())
    return Trial(answer == asked.answer, mass, deltas, sent, kv_bytes, found, quoted(hay, answer, question))
