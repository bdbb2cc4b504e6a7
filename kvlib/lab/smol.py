"""A real language model loses the needle too: SmolLM2-135M-Instruct, in numpy, on a laptop.

The needle task of smol_notes.py, asked of a chat model of 135 million weights. What it did on one machine is recorded
in data/smol_needle.json, by tools/record_smol.py; `make smol` installs what is needed to do it again.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from statistics import fmean
from typing import Any, NamedTuple

from kvlib.lab.score import wilson
from kvlib.lab.smol_cache import LlamaCache
from kvlib.lab.smol_notes import (
    ALL,
    ALONE,
    ARMS,
    END,
    ONE,
    QUESTIONS,
    QUOTES,
    REPORTING,
    TEN,
    notes,
    questions_per,
    quoted,
)
from kvlib.lab.smol_weights import NotInstalledError, Smol, available, load
from kvlib.progress import progress_bar
from kvlib.units import whole

__all__ = ["ALL", "ALONE", "ARMS", "LENGTHS", "ONE", "REPORTING", "TEN", "TRIALS", "NotInstalledError", "Trial"]
__all__ += ["answer", "ask", "available", "by_depth", "load", "measure", "recorded"]
__all__ += ["show_live", "show_recorded", "summary"]

Record = dict[str, Any]
LENGTHS = (256, 512, 1024, 2048)  # tokens of the whole prompt, filled up to within a sentence
TRIALS = 30
MOST = 8  # tokens of an answer: a space, four digits and what comes next are six


class Trial(NamedTuple):
    """One question: its arm, room and haystack, how deep the needle stood, prompt tokens, the reply and its source."""

    arm: str
    length: int
    haystack: int
    depth: float
    tokens: int
    reply: str
    quoted: str


def measure(
    smol: Smol,
    arms: Sequence[str] = ARMS,
    lengths: Sequence[int] = LENGTHS,
    *,
    trials: int = TRIALS,
    seeds: str = REPORTING,
    progress: bool | None = None,
) -> list[Trial]:
    """Ask `trials` questions of each arm at each length. `summary` makes a table of the result.

    Raises:
        ValueError: as `notes`, or if trials is not a multiple of the questions that share a haystack.
    """
    work = []
    for arm in arms:
        if whole("trials", trials, 1) % questions_per(arm):
            raise ValueError(f"trials must be a multiple of {questions_per(arm)} for {arm!r}; got {trials}")
        work += [(arm, length, each) for length in lengths for each in range(trials // questions_per(arm))]
    found: list[Trial] = []
    with progress_bar("haystack", len(work), progress) as move:
        for arm, length, each in work:
            found += ask(smol, arm, length, each, seeds)
            move(1)
    return found


def ask(smol: Smol, arm: str, length: int, haystack: int, seeds: str = REPORTING, dtype: str = "fp32") -> list[Trial]:
    """All questions about one haystack: its notes are prefilled once, each question goes on from a fork of that cache.

    Args:
        smol: from `load()`.
        arm: what the haystack is made of, as `smol_notes.notes` says.
        length: tokens that its prompts may have.
        haystack: its number.
        seeds: the set it is from.
        dtype: of the cache, fp32 or fp16.
    """
    hay = notes(arm, length, haystack, smol.encode, seeds)
    prefix = hay.prefix(smol.encode)
    shared = smol.llama.new_cache(len(prefix), dtype)
    smol.llama.forward(prefix, shared)
    found = []
    for code in hay.asked:
        question = smol.encode(code.question)
        reply = answer(smol, question, shared.fork(len(question) + MOST))
        tokens, source = len(prefix) + len(question), quoted(code, reply, hay.codes)
        found.append(Trial(arm, length, haystack, round(hay.depth(code), 3), tokens, reply, source))
    return found


def answer(smol: Smol, question: Sequence[int], kv: LlamaCache, most: int = MOST) -> str:
    """The most likely continuation, token by token, until a number is complete, the turn ends, or `most` tokens."""
    end, said, new = smol.encode(END), list[int](), list(question)
    while len(said) < most and new != end and not re.search(r"[0-9][^0-9]", smol.decode(said)):
        new = [int(smol.llama.forward(new, kv).argmax())]
        said += new
    return smol.decode(said)


def summary(trials: Sequence[Trial]) -> list[Record]:
    """One record for each arm and length, in order of appearance.

    length is the room, tokens the mean prompt. n questions about so many `haystacks`, right answers, accuracy with its
    95 % Wilson interval from low to high, and wrong answers by what they quote: with right they sum to n. Questions
    that share a haystack are not independent, so where haystacks < n the true interval is wider.
    """
    groups: dict[tuple[str, int], list[Trial]] = {}
    for trial in trials:
        groups.setdefault((trial.arm, trial.length), []).append(trial)
    return [
        {"arm": arm, "length": length, "tokens": round(fmean(trial.tokens for trial in group))} | _shares(group)
        for (arm, length), group in groups.items()
    ]


def by_depth(trials: Sequence[Trial], arms: Sequence[str] = (TEN, ALL)) -> list[Record]:
    """One record for each of the ten depths, from the first ninth (0) to the last (1), all lengths of `arms` together.

    Contents as in `summary`. Read as a picture of where the model looks: accuracy differs between arms and lengths,
    but each of them asks equally often at every depth.
    """
    groups: dict[int, list[Trial]] = {place: [] for place in range(QUESTIONS)}
    for trial in trials:
        if trial.arm in arms:
            groups[round(trial.depth * (QUESTIONS - 1))].append(trial)
    return [{"depth": place / (QUESTIONS - 1)} | _shares(group) for place, group in groups.items() if group]


def _shares(group: Sequence[Trial]) -> Record:
    n, right = len(group), sum(trial.quoted == "needle" for trial in group)
    low, high = wilson(right, n)
    return {
        "n": n,
        "haystacks": len({(trial.arm, trial.length, trial.haystack) for trial in group}),
        "right": right,
        "accuracy": right / n,
        "low": low,
        "high": high,
        **{f"quotes {what}": sum(trial.quoted == what for trial in group) for what in QUOTES},
    }


@cache
def recorded() -> Record:
    """The recorded run: date, machine, script, packages, caution, rows, and its trials as `Trial`s."""
    found: Record = json.loads((files("kvlib") / "data" / "smol_needle.json").read_text(encoding="utf-8"))
    return found | {"trials": [Trial(*row) for row in found["trials"]]}


def show_recorded() -> list[Record]:
    """The table of the recorded run, as `summary` makes it from the trials."""
    return summary(recorded()["trials"])


def show_live(seconds: float = 20, seeds: str = "live", smol: Smol | None = None) -> list[Record]:
    """The same table for other haystacks, measured now: as many as fit into about `seconds`, with the loading.

    Short and long haystacks take turns, ten questions each; one of them is done in any case.

    Raises:
        NotInstalledError: without the optional packages; the message names `make smol`.
    """
    start, found = time.perf_counter(), list[Trial]()
    smol = load() if smol is None else smol
    work = [(arm, length) for arm in (ALL, TEN) for length in (LENGTHS[0], LENGTHS[2])]
    for each, (arm, length) in [(each, kind) for each in range(TRIALS // QUESTIONS) for kind in work]:
        before = time.perf_counter()
        found += ask(smol, arm, length, each, seeds)
        now = time.perf_counter()
        if now - start + (now - before) > seconds:  # the next may take as long as this one
            break
    return summary(found)
