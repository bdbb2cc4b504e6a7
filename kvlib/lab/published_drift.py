"""What others published of large models in long contexts, each with source and date. Nothing measured here."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib import resources
from typing import Any

from kvlib.hardware import Source


@dataclass(frozen=True)
class LengthResult:
    """A model's scores in %, by the length of the prompt in tokens.

    `threshold` is the score that the benchmark still calls good, None where it names none, and `effective_tokens` the
    effective length that its authors printed, 0 if even the shortest prompt falls short.
    """

    benchmark: str
    task: str
    model: str
    claimed_tokens: int
    tokens: tuple[int, ...]
    scores: tuple[float, ...]
    source: Source
    as_of: date
    threshold: float | None = None
    effective_tokens: int | None = None

    @property
    def reached(self) -> int | None:
        """The effective length by the benchmark's own rule, from the scores: the last length before they fall short."""
        if self.threshold is None:
            return None
        reached = 0
        for tokens, score in zip(self.tokens, self.scores, strict=True):
            if score < self.threshold:
                break
            reached = tokens
        return reached

    @property
    def record(self) -> dict[str, Any]:
        """The shortest and the longest prompt, as `kvlib.show.drift_pictures.published` takes them."""
        return {
            "benchmark": self.benchmark,
            "model": self.model,
            "short_tokens": self.tokens[0],
            "short": self.scores[0],
            "long_tokens": self.tokens[-1],
            "long": self.scores[-1],
            "effective_tokens": self.effective_tokens,
            "source": self.source.title,
            "as_of": self.as_of,
        }


@dataclass(frozen=True)
class PlaceResult:
    """A model's scores in %, by the place of the document with the answer among 20; without and with only that one."""

    model: str
    place: tuple[int, ...]
    scores: tuple[float, ...]
    closed_book: float
    oracle: float
    source: Source
    as_of: date

    @property
    def middle(self) -> float:
        """The worst score of a place that is neither first nor last."""
        return min(self.scores[1:-1])


@dataclass(frozen=True)
class Finding:
    """A finding that was published without a row of scores."""

    benchmark: str
    says: str
    source: Source
    as_of: date


@cache
def length_results() -> tuple[LengthResult, ...]:
    """Scores by length: RULER, NoLiMa, MRCR."""
    return tuple(LengthResult(**_record(row)) for row in _data()["results"])


@cache
def place_results() -> tuple[PlaceResult, ...]:
    """Scores by place: Lost in the Middle."""
    return tuple(PlaceResult(**_record(row)) for row in _data()["places"])


@cache
def findings() -> tuple[Finding, ...]:
    """What was published in words: Context Rot, MRCR v2, the first needle in a haystack."""
    return tuple(Finding(**_record(row)) for row in _data()["findings"])


def _record(row: dict[str, Any]) -> dict[str, Any]:
    """A row with tuples for lists and its source in full."""
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
    return values | {"source": Source(**_data()["sources"][row["source"]])}


@cache
def _data() -> dict[str, Any]:
    return tomllib.loads((resources.files("kvlib") / "data/drift_published.toml").read_text(encoding="utf-8"))
