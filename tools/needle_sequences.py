"""The sequences that the needle model learns from: facts, filler, and several questions in each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvlib.lab.sentences import (
    FACT_TOKENS,
    QUESTION_TOKENS,
    VALUE_AT,
    Key,
    fact,
    filler,
    question,
    random_key,
    rival_key,
)
from kvlib.lab.words import VALUES, encode

Array = NDArray[Any]


@dataclass(frozen=True)
class Stage:
    """What the sequences of one part of the training look like, and when the part ends."""

    lengths: tuple[int, ...]
    synonym: float  # share of questions that use the other names
    near: float  # share of facts that are rivals of an earlier one
    numeric: float  # share of the filler; the topical share is the same
    dense: bool  # as many facts as fit, or a random number up to 12
    leave_at: float  # when the running accuracy is above this
    least_steps: int
    latest: float  # or at this share of all steps


STAGES = (
    Stage((128,), 0.1, 0.2, 0.1, True, 0.85, 0, 0.4),
    Stage((96, 128), 0.3, 0.5, 0.15, False, 0.90, 300, 0.6),
    Stage((32, 64, 128, 192, 256), 0.3, 0.5, 0.15, False, math.inf, 0, 1.0),
)
STOP = int(encode(".")[0])


def sequence(rng: Random, stage: Stage, length: int) -> tuple[list[int], list[int]]:
    """Facts, filler and questions in a random order, every question after its fact: `length` + 1 ids.

    The second list holds the places whose next token is an answer.
    """
    many = max(1, length // 20) if stage.dense else rng.randint(1, max(1, min(12, length // 20)))
    numeric, topical = (stage.numeric * 2 * rng.random() for _ in range(2))
    items: list[tuple[float, tuple[int, ...], bool]] = []
    for key in _keys(rng, stage, many):
        told = fact(rng, key, rng.choice(VALUES))
        at = rng.random()
        asked_at = at + (1 - at) * math.sqrt(rng.random()) if rng.random() < 0.6 else 1 + rng.random()
        asked = question(told, rng.random() < stage.synonym)
        items += [(at, told.ids, False), (asked_at, (*asked, told.ids[VALUE_AT], STOP), True)]
    for _ in range(int((length + 1 - (FACT_TOKENS + QUESTION_TOKENS + 2) * many) / 8.3)):
        draw = rng.random()
        kind = "numeric" if draw < numeric else "topical" if draw < numeric + topical else "plain"
        items.append((rng.random(), filler(rng, kind).ids, False))
    ids: list[int] = []
    answers: list[int] = []
    for _, tokens, asks in sorted(items):
        if asks:
            answers.append(len(ids) + QUESTION_TOKENS - 1)
        ids += tokens
    ids = (ids + [0] * length)[: length + 1]
    return ids, [place for place in answers if place < length]


def _keys(rng: Random, stage: Stage, many: int) -> list[Key]:
    keys: list[Key] = []
    while len(keys) < many:
        near = keys and rng.random() < stage.near
        key = rival_key(rng, rng.choice(keys), rng.choice((1, 2))) if near else random_key(rng)
        if key not in keys:
            keys.append(key)
    return keys


def batch(rng: Random, stage: Stage) -> tuple[Array, Array, Array, Array]:
    """About 4,096 tokens of one length: ids, targets, weight of each position in the loss, where the answers are."""
    length = rng.choice(stage.lengths)
    rows = [sequence(rng, stage, length) for _ in range(max(4, 4096 // length))]
    tokens = np.array([ids for ids, _ in rows], dtype=np.int64)
    ids, targets = tokens[:, :-1], tokens[:, 1:]
    answers = np.zeros(ids.shape, dtype=bool)
    for row, (_, places) in enumerate(rows):
        answers[row, places] = True
    coins = np.random.default_rng(rng.getrandbits(64)).random(ids.shape)
    others = ~answers & (targets != 0) & (coins < 0.15)
    weights = answers / max(1, answers.sum()) + 0.05 * others / max(1, others.sum())
    return ids, targets, weights.astype(np.float32), answers
