"""Retrievers: which sentences of a haystack are worth sending, judged by the words of the question?

A retriever is a function of the question and the sentences, all of them texts, that names the places of those to send.
It never sees which sentence is the needle; one of your own can take the place of these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvlib.lab.asking import shares
from kvlib.lab.tinylm import TinyLM
from kvlib.lab.words import ADJECTIVES, ATTRIBUTES, NOUNS, WORDS, encode

THESAURUS: Mapping[str, tuple[str, ...]] = {
    word: tuple(other for other in names if other != word) for names in (*ADJECTIVES, *NOUNS) for word in names
}
_STOP = frozenset(WORDS[: WORDS.index(ATTRIBUTES[0])])  # function words come first


def content(text: str) -> list[str]:
    """The words of a text that are about something: all but the function words."""
    return [word for word in text.split() if word not in _STOP]


@dataclass(frozen=True)
class BM25:
    """The `best` sentences by BM25 (k1 = 1.2, b = 0.75), as far as they share a word with the question.

    Scores come from the package rank-bm25. Its BM25Plus with delta = 0 is plain BM25 that weighs a word in df of n
    sentences by ln((n + 1) / df), always above 0; Lucene's ln(1 + (n - df + 1/2) / (df + 1/2)) is the same with
    df + 1/2. Its BM25Okapi weighs by ln((n - df + 1/2) / (df + 1/2)), which is 0 for a word in one of two sentences.

    Attributes:
        best: sentences to pick.
        thesaurus: further names of a word, which are asked for as well; None: the question's words only.
    """

    best: int = 1
    thesaurus: Mapping[str, tuple[str, ...]] | None = None

    def __call__(self, question: str, sentences: Sequence[str]) -> list[int]:
        """Places of the picked sentences, the best first; of equals the first."""
        scores = self.scores(question, sentences)
        return [int(place) for place in np.argsort(-scores, kind="stable")[: self.best] if scores[place] > 0]

    def scores(self, question: str, sentences: Sequence[str]) -> NDArray[np.float64]:
        """The score of every sentence."""
        from rank_bm25 import BM25Plus  # type: ignore[import-untyped]

        words = content(question)
        words += [other for word in words for other in (self.thesaurus or {}).get(word, ())]
        index = BM25Plus([content(sentence) for sentence in sentences], k1=1.2, b=0.75, delta=0)
        found: NDArray[np.float64] = index.get_scores(words)
        return found


@dataclass(frozen=True)
class Embeddings:
    """The model's own word vectors: a sentence scores, for each word of the question, its nearest word."""

    model: TinyLM
    best: int = 1

    def __call__(self, question: str, sentences: Sequence[str]) -> list[int]:
        """Places of the picked sentences, the best first; of equals the first."""
        vectors = self.model.weights["embedding"]
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        near = vectors[encode(" ".join(content(question)))] @ vectors.T
        words = [near[:, encode(" ".join(content(sentence) or ["<pad>"]))] for sentence in sentences]
        scores = np.array([found.max(axis=1).sum() for found in words])
        return [int(place) for place in np.argsort(-scores, kind="stable")[: self.best]]


@dataclass(frozen=True)
class OwnAttention:
    """The model reads everything once, and the sentences that it looked at most are sent again, alone."""

    model: TinyLM
    best: int = 1

    def __call__(self, question: str, sentences: Sequence[str]) -> list[int]:
        """Places of the picked sentences, the one most looked at first."""
        texts = [encode(sentence) for sentence in sentences]
        ends = np.cumsum([len(text) for text in texts])
        reading = self.model.read(self.model.prefill(np.concatenate(texts)), encode(question))
        spans = [(int(end) - len(text), int(end)) for text, end in zip(texts, ends, strict=True)]
        return [int(place) for place in np.argsort(-shares(reading, spans), kind="stable")[: self.best]]
