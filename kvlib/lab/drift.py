"""Context drift, measured: how often does the needle model find its needle, by length, noise, rivals and question?

Every experiment returns plain records, one dict each, as `trials.measure` says: `pandas.DataFrame(records)` is a table.
Depth has its own module, depth.py; why it happens is in dilution.py, and what helps in cures.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial

from kvlib.lab.asking import TRAINED
from kvlib.lab.cures import CLAIMED, cures
from kvlib.lab.depth import DEPTHS, heatmap
from kvlib.lab.score import effective_length
from kvlib.lab.tinylm import TinyLM
from kvlib.lab.trials import (
    ALL_FACTS,
    FEW_FACTS,
    LENGTHS,
    NOISE,
    PLAIN,
    REPORTING,
    SOME_FACTS,
    Arm,
    Record,
    ceiling,
    compare,
    measure,
    run,
    summary,
)


def noise(
    model: TinyLM,
    lengths: Sequence[int] = LENGTHS,
    arms: Sequence[Arm] = NOISE,
    *,
    trials: int | None = None,
    seeds: str = REPORTING,
    executor: Executor | None = None,
    progress: bool | None = None,
) -> list[Record]:
    """Accuracy by kind of noise and length; every kind meets the same questions. Arguments as `trials.measure`."""
    return measure(model, arms, lengths, trials=trials, seeds=seeds, executor=executor, progress=progress)


def effective_lengths(records: Iterable[Record], share: float = 0.85) -> dict[str, int]:
    """Effective length of each arm in records of `noise`, in tokens; `score.effective_length` says what it is."""
    accuracy: dict[str, dict[int, float]] = {}
    for record in records:
        accuracy.setdefault(record["arm"], {})[record["tokens"]] = record["accuracy"]
    return {arm: effective_length(by_length, share) for arm, by_length in accuracy.items()}


def rivals(
    model: TinyLM,
    counts: Sequence[int] = (0, 1, 2, 4, 8, 16),
    shared: Sequence[int] = (2, 1, 0),
    tokens: int = TRAINED,
    *,
    trials: int = 200,
    seeds: str = REPORTING,
    executor: Executor | None = None,
    progress: bool | None = None,
) -> list[Record]:
    """The control: accuracy by number and likeness of rivals in plain filler, no longer than what was trained on.

    Returns:
        A record per number of rivals and of parts (0 to 2) that they share with the needle's key, named in it as rivals
        and shared. Arguments and the rest as `trials.measure`.
    """
    found = []
    for parts in shared:
        arms = [replace(PLAIN, name=f"{count} rivals", rivals=count, shared=parts) for count in counts]
        rows = measure(model, arms, [tokens], trials=trials, seeds=seeds, executor=executor, progress=progress)
        found += [{"rivals": arm.rivals, "shared": parts} | row for arm, row in zip(arms, rows, strict=True)]
    return found


def synonyms(
    model: TinyLM,
    lengths: Sequence[int] = LENGTHS,
    arm: Arm = SOME_FACTS,
    *,
    trials: int | None = None,
    seeds: str = REPORTING,
    executor: Executor | None = None,
    progress: bool | None = None,
) -> list[Record]:
    """The same haystacks asked in the needle's own words and in other words for the same thing.

    Returns:
        A record per length: literal and synonym (accuracies), literal_low ... synonym_high (their intervals), n, and
        only_literal, only_synonym, p: the trials that only one of the two got right, and McNemar's p.
    """
    arms = [replace(arm, name="literal", synonym=False), replace(arm, name="synonym", synonym=True)]
    found = run(model, arms, lengths, trials=trials, seeds=seeds, executor=executor, progress=progress)
    records = []
    for tokens in lengths:
        first, second = (found[name, "everything", tokens] for name in ("literal", "synonym"))
        record: Record = {"tokens": tokens, "n": len(first)}
        for name, outcomes in (("literal", first), ("synonym", second)):
            seen = summary(outcomes)
            record |= {name: seen["accuracy"], f"{name}_low": seen["low"], f"{name}_high": seen["high"]}
        pairs = compare(first, second)
        record |= {"only_literal": pairs["only_first"], "only_synonym": pairs["only_second"], "p": pairs["p"]}
        records.append(record)
    return records


def score_run(model: TinyLM, *, executor: Executor | None = None, progress: bool | None = None) -> Record:
    """The report of one trained model, some 25 s of one core: what kvlib/data/needle/runs.json keeps of every seed.

    Returns:
        scheme; effective_length on facts alone (tokens); ceiling: the record without a haystack; rows: records of facts
        alone at all lengths, of plain filler and of 10 and 30 % facts at some, and of 16 rivals at 256 tokens; depths:
        records of a coarse map with 10 % facts; cures: records of four treatments at 4,096 tokens.
    """
    ask = partial(measure, model, executor=executor, progress=progress)
    facts = ask([ALL_FACTS], LENGTHS)
    rows = [
        *facts,
        *ask([PLAIN], [256, 8192, 16384]),
        *ask([FEW_FACTS, SOME_FACTS], [256, 4096, 16384]),
        *ask([replace(PLAIN, name="16 rivals", rivals=16)], [256]),
    ]
    coarse = partial(heatmap, model, [256, 1024, 4096], DEPTHS[::2], FEW_FACTS, repetitions=20)
    return {
        "scheme": model.scheme,
        "effective_length": effective_lengths(facts)[ALL_FACTS.name],
        "ceiling": ceiling(model),
        "rows": rows,
        "depths": coarse(executor=executor, progress=progress),
        "cures": cures(model, [4096], CLAIMED, executor=executor, progress=progress),
    }
