"""Every trained seed and its scores, from data/needle/runs.json, and in how many of them a claim of lesson 07 holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

Run = dict[str, Any]
Record = dict[str, Any]
STEPS = 1_600  # of training, for the models that are shipped
SEEDS = 5
ENOUGH = 0.8  # of the seeds: what holds in fewer depends on the seed
LUCK = 0.05


@dataclass(frozen=True)
class Claim:
    """A sentence about the models of one scheme, and how to tell from a run's scores whether it holds."""

    says: str
    holds: Callable[[Run], bool]
    scheme: str = "nope"


def row_of(run: Run, arm: str, tokens: int) -> Record:
    """The scores of a run in one kind of hay at one length.

    Raises:
        ValueError: if it was not measured.
    """
    for row in run["rows"]:
        if (row["arm"], row["tokens"]) == (arm, tokens):
            return dict(row)
    raise ValueError(f"arm and tokens must be measured in runs.json; got {arm!r}, {tokens!r}")


def at_depth(run: Run, depth: float, tokens: int) -> Record:
    """The scores of a run with the needle at this depth of 10 % facts: 0 is the oldest place, 1 beside the question."""
    return dict(next(row for row in run["depths"] if (row["depth"], row["tokens"]) == (depth, tokens)))


def verdict(run: Run, asked: str, way: str) -> int:
    """A way of helping against sending everything, the same questions: 1 better, -1 worse, 0 if it may be luck.

    `asked` is literal or synonym. What may be luck is decided by McNemar's exact test, at 5 %.
    """
    row = next(row for row in run["cures"] if (row["arm"], row["way"]) == (asked, way))
    return 0 if row["p"] >= LUCK else 1 if row["better"] > row["worse"] else -1


def clearly_fewer(fewer: Record, more: Record) -> bool:
    """Whether one accuracy lies below another by more than luck: their 95 % intervals do not touch."""
    return bool(fewer["high"] < more["low"])


FACTS, PLAIN = "100 % facts", "plain filler"
CLAIMS = (
    Claim(
        "plain filler: at least 0.9 right among 8,192 tokens",
        lambda run: bool(row_of(run, PLAIN, 8192)["accuracy"] >= 0.9),
    ),
    Claim(
        "facts alone: clearly fewer right among 4,096 tokens than among 256",
        lambda run: clearly_fewer(row_of(run, FACTS, 4096), row_of(run, FACTS, 256)),
    ),
    Claim(
        "4,096 tokens: fewer right in facts alone than in 30 % facts",
        lambda run: bool(row_of(run, FACTS, 4096)["right"] < row_of(run, "30 % facts", 4096)["right"]),
    ),
    Claim(
        "30 % facts: fewer right among 16,384 tokens than among 256",
        lambda run: bool(row_of(run, "30 % facts", 16384)["accuracy"] < row_of(run, "30 % facts", 256)["accuracy"]),
    ),
    Claim(
        "256 tokens: clearly fewer right with 16 near rivals than with none",
        lambda run: clearly_fewer(row_of(run, "16 rivals", 256), row_of(run, PLAIN, 256)),
    ),
    Claim(
        "4,096 tokens, asked in the needle's words: BM25 beats sending everything",
        lambda run: verdict(run, "literal", "BM25, top 1") == 1,
    ),
    Claim(
        "4,096 tokens, asked in other words: BM25 loses against sending everything",
        lambda run: verdict(run, "synonym", "BM25, top 1") == -1,
    ),
    Claim(
        "4,096 tokens, asked in other words: BM25 with synonyms beats sending everything",
        lambda run: verdict(run, "synonym", "BM25 + synonyms, top 1") == 1,
    ),
    Claim(
        "4,096 tokens, asked in the needle's words: a temperature beats none",
        lambda run: verdict(run, "literal", "temperature, slope 1") == 1,
    ),
    Claim(
        "NoPE, 4,096 tokens: the oldest needle is found as often as the newest, within 2 of 20",
        lambda run: bool(abs(at_depth(run, 0.0, 4096)["right"] - at_depth(run, 1.0, 4096)["right"]) <= 2),
    ),
    Claim(
        "ALiBi, 4,096 tokens: the oldest needle is found clearly less often than the newest",
        lambda run: clearly_fewer(at_depth(run, 0.0, 4096), at_depth(run, 1.0, 4096)),
        "alibi",
    ),
    Claim(
        "RoPE, 1,024 tokens: the oldest needle is found clearly less often than the newest",
        lambda run: clearly_fewer(at_depth(run, 0.0, 1024), at_depth(run, 1.0, 1024)),
        "rope",
    ),
    Claim(
        "RoPE, needle beside the question: clearly fewer right among 4,096 tokens than among 256",
        lambda run: clearly_fewer(at_depth(run, 1.0, 4096), at_depth(run, 1.0, 256)),
        "rope",
    ),
)


@cache
def recorded() -> Record:
    """All of runs.json: source, as_of, shipped (scheme -> seed), and runs: one per scheme, budget of steps and seed."""
    found: Record = json.loads((resources.files("kvlib") / "data/needle/runs.json").read_text(encoding="utf-8"))
    return found


def recorded_runs(scheme: str = "nope", steps: int = STEPS) -> list[Run]:
    """The scored runs of a scheme and a budget of training steps, in the order of their seeds.

    Raises:
        ValueError: if there is none.
    """
    runs = [run for run in recorded()["runs"] if (run["scheme"], run["steps"]) == (scheme, steps)]
    if not runs:
        raise ValueError(f"scheme and steps must have runs in runs.json; got {scheme!r}, {steps!r}")
    return sorted(runs, key=lambda run: run["seed"])


def recorded_rows(arm: str = FACTS, scheme: str = "nope", steps: int = STEPS) -> list[Record]:
    """The records of all seeds in one kind of hay, each with `run`, its seed, and whether that seed was `shipped`."""
    chosen = recorded()["shipped"][scheme] if steps == STEPS else None
    return [
        row | {"run": run["seed"], "shipped": run["seed"] == chosen}
        for run in recorded_runs(scheme, steps)
        for row in run["rows"]
        if row["arm"] == arm
    ]


def budgets(scheme: str = "nope") -> list[int]:
    """The numbers of training steps for which all five seeds of a scheme are recorded."""
    steps = [run["steps"] for run in recorded()["runs"] if run["scheme"] == scheme]
    return sorted(each for each in set(steps) if steps.count(each) >= SEEDS)


def claims_by_seed(claims: Sequence[Claim] = CLAIMS) -> list[tuple[str, ...]]:
    """A row for each claim: what it says, and in how many seeds it holds, for each of `budgets()`; "–": not trained."""
    return [(claim.says, *(_count(claim, steps) for steps in budgets())) for claim in claims]


def _count(claim: Claim, steps: int) -> str:
    runs = [run for run in recorded()["runs"] if (run["scheme"], run["steps"]) == (claim.scheme, steps)]
    held = sum(claim.holds(run) for run in runs)
    words = f"{held} of {len(runs)}"
    return "–" if not runs else words if held >= ENOUGH * len(runs) else f"{words}: depends on the seed"
