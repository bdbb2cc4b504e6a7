"""Trials of the needle task: many haystacks, a question each, and a count of right answers that may be quoted.

A trial's haystack depends on (seeds, tokens, trial) and its arm alone. So every arm meets the same keys, values and
depths, every way of reading meets the same haystacks, and the results do not depend on who works them out: they go
through any `concurrent.futures.Executor`, a process pool or a Dask cluster's `Client.get_executor()`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from random import Random
from statistics import fmean
from typing import Any, TypeVar

from kvlib.lab.asking import QUOTES, Prompts, Trial, Way
from kvlib.lab.needle import Haystack, haystack
from kvlib.lab.score import mcnemar, wilson
from kvlib.lab.sentences import FACT_TOKENS, QUESTION_TOKENS
from kvlib.lab.tinylm import TinyLM
from kvlib.progress import progress_bar
from kvlib.units import whole

REPORTING, TUNING = "reporting", "tuning"  # two sets of haystacks: what is chosen on the one is told of the other
TRIALS = {64: 200, 128: 200, 256: 200, 512: 200, 1024: 150, 2048: 100, 4096: 60, 8192: 40, 16384: 30}
LENGTHS = tuple(TRIALS)

Record = dict[str, Any]
_BATCH = 4096  # tokens that go through numpy together
_TASK = 32_768  # tokens of a task: large enough that sending the weights along does not matter

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True)
class Arm:
    """What a haystack is made of: the arguments of `needle.haystack`, under a name."""

    name: str
    facts: float = 0.0
    numeric: float = 0.15
    topical: float = 0.15
    rivals: int = 0
    shared: int = 2
    depth: float | None = None
    synonym: bool = False

    def haystack(self, tokens: int, trial: int, seeds: str = REPORTING) -> Haystack:
        """The haystack of one trial. Errors as `needle.haystack`."""
        recipe = {name: value for name, value in vars(self).items() if name != "name"}
        return haystack(Random(f"{seeds} {tokens} {trial}"), tokens, **recipe)


PLAIN = Arm("plain filler", numeric=0.0, topical=0.0)
HALF_NUMERIC = Arm("half numeric", numeric=0.5, topical=0.0)
HALF_TOPICAL = Arm("half topical", numeric=0.0, topical=0.5)
FEW_FACTS = Arm("10 % facts", facts=0.1)
SOME_FACTS = Arm("30 % facts", facts=0.3)
ALL_FACTS = Arm("100 % facts", facts=1.0)
NOISE = (PLAIN, HALF_NUMERIC, HALF_TOPICAL, FEW_FACTS, SOME_FACTS, ALL_FACTS)


@dataclass(frozen=True, eq=False)
class Task:
    """Some trials of one arm at one length: a piece of work that can be sent to another process."""

    model: TinyLM
    arm: Arm
    ways: tuple[Way, ...]
    tokens: int
    seeds: str
    trials: range

    def batches(self) -> Iterator[list[Haystack]]:
        """The haystacks, as many together as make about 4,096 tokens."""
        step = max(1, _BATCH // self.tokens)
        for start in range(self.trials.start, self.trials.stop, step):
            together = range(start, min(start + step, self.trials.stop))
            yield [self.arm.haystack(self.tokens, trial, self.seeds) for trial in together]


def measure(
    model: TinyLM,
    arms: Sequence[Arm],
    lengths: Sequence[int],
    ways: Sequence[Way] = (Way(),),
    *,
    trials: int | Mapping[int, int] | None = None,
    seeds: str = REPORTING,
    executor: Executor | None = None,
    progress: bool | None = None,
) -> list[Record]:
    """Accuracy of every arm, length and way: one record each, in this order.

    Args:
        model: the model to ask.
        arms: what the haystacks are made of.
        lengths: tokens of the prompts, question included.
        ways: how they are read. Those without a retriever share one prefill.
        trials: questions per length; None: `TRIALS`, or 30 where it names none.
        seeds: `REPORTING` or `TUNING`, or any other text for haystacks of your own.
        executor: works on the trials; None: this process does.
        progress: whether to show a bar on what takes over 2 s; None: on a terminal only.

    Returns:
        Records as `summary` makes them, with arm, way and tokens.

    Raises:
        ValueError: as `needle.haystack`, or if trials is not 1 or more or leaves a length out, or there are no arms,
            lengths or ways, or two of them are the same.
    """
    found = run(model, arms, lengths, ways, trials=trials, seeds=seeds, executor=executor, progress=progress)
    return [
        {"arm": arm, "way": way, "tokens": tokens} | summary(outcomes) for (arm, way, tokens), outcomes in found.items()
    ]


def run(
    model: TinyLM,
    arms: Sequence[Arm],
    lengths: Sequence[int],
    ways: Sequence[Way] = (Way(),),
    *,
    trials: int | Mapping[int, int] | None = None,
    seeds: str = REPORTING,
    executor: Executor | None = None,
    progress: bool | None = None,
) -> dict[tuple[str, str, int], list[Trial]]:
    """The trials themselves by (arm, way, tokens), in the order of the trials. Arguments and errors as `measure`."""
    named: dict[str, list[object]] = {
        "arms": [arm.name for arm in arms],
        "ways": [way.name for way in ways],
        "lengths": list(lengths),
    }
    for what, names in named.items():
        if not names or len(set(names)) < len(names):
            raise ValueError(f"{what} must be one or more, all different; got {names}")
    work = list(tasks(model, arms, lengths, tuple(ways), trials, seeds))
    found: dict[tuple[str, str, int], list[Trial]] = {}
    for task, outcomes in zip(work, each(_outcomes, work, executor, progress), strict=True):
        for way, seen in zip(ways, outcomes, strict=True):
            found.setdefault((task.arm.name, way.name, task.tokens), []).extend(seen)
    return found


def tasks(
    model: TinyLM,
    arms: Iterable[Arm],
    lengths: Sequence[int],
    ways: tuple[Way, ...],
    trials: int | Mapping[int, int] | None,
    seeds: str,
) -> Iterator[Task]:
    """The work cut into pieces of whole batches, whoever does it: so the results cannot depend on that."""
    for arm in arms:
        for tokens in lengths:
            many = _many(trials, tokens)
            batch = max(1, _BATCH // whole("lengths", tokens, 1))
            step = batch * max(1, _TASK // (batch * tokens))
            for start in range(0, whole("trials", many, 1), step):
                yield Task(model, arm, ways, tokens, seeds, range(start, min(start + step, many)))


def _many(trials: int | Mapping[int, int] | None, tokens: int) -> int:
    if trials is None:
        return TRIALS.get(tokens, 30)
    if not isinstance(trials, Mapping):
        return trials
    if tokens not in trials:
        raise ValueError(f"trials must name a number for each length; {tokens} is not in {dict(trials)!r}")
    return trials[tokens]


def each(
    function: Callable[[_In], _Out], work: Sequence[_In], executor: Executor | None, progress: bool | None
) -> Iterator[_Out]:
    """`function` of every piece of work, in order, on the executor or here, with a bar."""
    with progress_bar("task", len(work), progress) as move:
        for result in map(function, work) if executor is None else executor.map(function, work):
            yield result
            move(1)


def summary(outcomes: Sequence[Trial]) -> Record:
    """Trials in one record: n, right, accuracy and its 95 % Wilson interval (low, high), and means of what was seen.

    mass: attention on the value to copy. recall: share of trials in which the needle was among what was sent. sent:
    tokens of all prompts together. kv_bytes: mean per prompt. "quotes ...": wrong answers by what they were taken from;
    with right they sum to n.
    """
    right, n = sum(outcome.right for outcome in outcomes), len(outcomes)
    low, high = wilson(right, n)
    return {
        "n": n,
        "right": right,
        "accuracy": right / n,
        "low": low,
        "high": high,
        "mass": fmean(outcome.mass for outcome in outcomes),
        "recall": sum(outcome.found for outcome in outcomes) / n,
        "sent": sum(outcome.sent for outcome in outcomes),
        "kv_bytes": fmean(outcome.kv_bytes for outcome in outcomes),
        **{f"quotes {what}": sum(outcome.quoted == what for outcome in outcomes) for what in QUOTES},
    }


def ceiling(model: TinyLM, trials: int = 200, seeds: str = REPORTING) -> Record:
    """Accuracy without a haystack: 17 tokens, the needle and the question alone. Chance is `words.CHANCE`."""
    least = FACT_TOKENS + QUESTION_TOKENS
    return measure(model, [Arm("no haystack")], [least], trials=trials, seeds=seeds)[0]


def compare(first: Sequence[Trial], second: Sequence[Trial]) -> Record:
    """Two treatments of the same trials: how many only the one got right, and McNemar's exact p.

    Raises:
        ValueError: if they are not equally many.
    """
    if len(first) != len(second):
        raise ValueError(f"first and second must be the same trials; got {len(first)} and {len(second)}")
    pairs = [(one.right, other.right) for one, other in zip(first, second, strict=True)]
    only_first, only_second = pairs.count((True, False)), pairs.count((False, True))
    return {"only_first": only_first, "only_second": only_second, "p": mcnemar(only_first, only_second)}


def _outcomes(task: Task) -> list[list[Trial]]:
    """The trials of a task, for each way."""
    batches = [Prompts(task.model, hays) for hays in task.batches()]
    return [[trial for prompts in batches for trial in prompts.read(way)] for way in task.ways]
